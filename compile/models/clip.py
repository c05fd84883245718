"""CLIP (Radford et al., 2021), from checkpoints of Hugging Face's `CLIPModel`.

Embeddings are those of the model's forward pass, `image_embeds` and `text_embeds`: projected, of length 1. The text
part takes no mask: attention is causal and the text is read at its end token, so padding behind it changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sanderling.compile.architecture import Adapted, Architecture
from sanderling.compile.blocks.pooling import unit_length
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.text import TextConfig, TextEncoder, first_place, row_at
from sanderling.compile.blocks.vision import VisionConfig, VisionEncoder
from sanderling.compile.checkpoint import Weights
from sanderling.compile.dual_encoder import DualEncoder, flat_patches, text_config, vision_config
from sanderling.compile.dual_encoder import adapt as adapt_dual
from sanderling.compile.preparation import ImageDefaults, image_input, text_input
from sanderling.compile.settings import Settings, section

OLD_END_TOKEN = 2
"""Checkpoints of 2022 name this end token, which is wrong; Hugging Face then takes the highest id for the end."""

_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "eos_token_id": 49407,
}
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_IMAGE = ImageDefaults(crop=True, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))
_RENAME = (
    (r"^vision\.projection\.", "visual_projection."),
    (r"^text\.projection\.", "text_projection."),
    (r"^(vision|text)\.encoder\.", r"\1_model."),
    (r"_model\.layers\.", "_model.encoder.layers."),
    (r"_model\.(class|token|patch|position)_embedding", r"_model.embeddings.\1_embedding"),
    (r"position_embedding$", "position_embedding.weight"),
    # Misspelt in every published checkpoint.
    (r"pre_layernorm", "pre_layrnorm"),
)
_IGNORE = ("logit_scale", "*.position_ids")


class ClipVision(nn.Module):
    """Picture -> embedding, read at the class token."""

    def __init__(self, config: VisionConfig, width: int, reduce_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.encoder = VisionEncoder(config, reduce_at)
        self.projection = nn.Linear(config.width, width, bias=False)

    def forward(self, pixel_values: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the embedding and the patches that are left.

        Args:
            pixel_values: float [batch, 3, image_size, image_size], normalised.
            keep: image tokens to keep, int64 scalar; needed when the part reduces.

        Returns:
            float [batch, width] of length 1, and int64 [batch, keep]: the patch that each token left was.
        """
        tokens = self.encoder(pixel_values, keep)
        return unit_length(self.projection(tokens.rows[:, 0])), tokens.kept[:, 1:]


class ClipText(nn.Module):
    """Text -> embedding, read at the end token."""

    def __init__(self, config: TextConfig, width: int, end_token: int) -> None:
        super().__init__()
        self.encoder = TextEncoder(config)
        self.projection = nn.Linear(config.width, width, bias=False)
        self.end_token = end_token

    def forward(self, input_ids: Tensor) -> Tensor:
        """int64 [batch, tokens] -> float [batch, width] of length 1."""
        place = first_place(input_ids == self._ends(input_ids))
        return unit_length(self.projection(row_at(self.encoder(input_ids), place)))

    def _ends(self, input_ids: Tensor) -> Tensor | int:
        return input_ids.amax(-1, keepdim=True) if self.end_token == OLD_END_TOKEN else self.end_token


def adapt(folder: Path, config: dict[str, Any]) -> Adapted:
    """Return CLIP in a checkpoint folder, split into "vision" and "text".

    Raises:
        CheckpointError: the configuration makes no sense, or the weights do not fit it.
    """
    vision_settings = section(config, "vision_config", _VISION)
    text_settings = section(config, "text_config", _TEXT)
    width = Settings("CLIPConfig", {"projection_dim": 512, **config}).whole("projection_dim")
    vision = vision_config(vision_settings, class_token=True, pre_norm=True, patch_bias=False)
    text = text_config(text_settings, causal=True)
    end_token = text_settings.token("eos_token_id")

    def arrange(weights: Weights) -> Weights:
        return flat_patches(weights, "vision_model.embeddings.patch_embedding.weight", vision)

    model = DualEncoder(
        name="clip",
        inputs=(
            image_input(folder, vision.image_size, _IMAGE),
            text_input(folder, text_settings, pad_to="longest"),
        ),
        vision=vision,
        text=text,
        width=width,
        build_vision=lambda at: ClipVision(vision, width, at),
        build_text=lambda: ClipText(text, width, end_token),
        rename=_RENAME,
        ignore=_IGNORE,
        arrange=arrange,
        end_token=text.vocabulary - 1 if end_token == OLD_END_TOKEN else end_token,
    )
    return adapt_dual(model, folder)


ARCHITECTURE = Architecture(model_type="clip", adapt=adapt)
