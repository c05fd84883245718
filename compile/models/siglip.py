"""SigLIP (Zhai et al., 2023), from checkpoints of Hugging Face's `SiglipModel`; fixed-size SigLIP 2 has the same form.

Embeddings are those of the model's forward pass, `image_embeds` and `text_embeds`: of length 1. The text part takes no
mask: the model was trained on texts padded to their full length, attends to the padding and is read at the last token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sanderling.compile.architecture import Adapted, Architecture
from sanderling.compile.blocks.attention import size_bias
from sanderling.compile.blocks.pooling import AttentionPool, unit_length
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.text import TextConfig, TextEncoder
from sanderling.compile.blocks.vision import VisionConfig, VisionEncoder
from sanderling.compile.checkpoint import Weights, expect_shape
from sanderling.compile.dual_encoder import DualEncoder, flat_patches, text_config, vision_config
from sanderling.compile.dual_encoder import adapt as adapt_dual
from sanderling.compile.preparation import ImageDefaults, image_input, text_input
from sanderling.compile.settings import section
from sanderling.errors import CheckpointError

_TEXT = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "pad_token_id": 1,
}
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_IMAGE = ImageDefaults(crop=False, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_RENAME = (
    (r"^(vision|text)\.head\.", r"\1_model.head."),
    (r"^(vision|text)\.encoder\.", r"\1_model."),
    (r"_model\.layers\.", "_model.encoder.layers."),
    (r"_model\.(token|patch|position)_embedding", r"_model.embeddings.\1_embedding"),
    (r"position_embedding$", "position_embedding.weight"),
)
_IGNORE = ("logit_scale", "logit_bias", "*.position_ids")
_POOL = "vision_model.head.attention"


class SiglipVision(nn.Module):
    """Picture -> embedding, pooled by attention."""

    def __init__(self, config: VisionConfig, reduce_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.encoder = VisionEncoder(config, reduce_at)
        self.head = AttentionPool(config.width, config.heads, config.hidden, config.activation, config.eps)
        self.reduces = reduce_at is not None

    def forward(self, pixel_values: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the embedding and the patches that are left.

        Args:
            pixel_values: float [batch, 3, image_size, image_size], normalised.
            keep: image tokens to keep, int64 scalar; needed when the part reduces.

        Returns:
            float [batch, width] of length 1, and int64 [batch, keep]: the patch that each token left was.
        """
        tokens = self.encoder(pixel_values, keep)
        bias = size_bias(tokens.sizes) if self.reduces else None
        return unit_length(self.head(tokens.rows, bias)), tokens.kept


class SiglipText(nn.Module):
    """Text -> embedding, read at the last token."""

    def __init__(self, config: TextConfig, width: int) -> None:
        super().__init__()
        self.encoder = TextEncoder(config)
        self.head = nn.Linear(config.width, width)

    def forward(self, input_ids: Tensor) -> Tensor:
        """int64 [batch, tokens], padded -> float [batch, width] of length 1."""
        return unit_length(self.head(self.encoder(input_ids)[:, -1]))


def adapt(folder: Path, config: dict[str, Any]) -> Adapted:
    """Return SigLIP in a checkpoint folder, split into "vision" and "text".

    Raises:
        CheckpointError: the configuration makes no sense, or the weights do not fit it.
    """
    vision_settings = section(config, "vision_config", _VISION)
    text_settings = section(config, "text_config", _TEXT)
    vision = vision_config(vision_settings)
    text = text_config(text_settings, causal=False)
    _check_heads(vision, text, vision_settings.values, text_settings.values)

    def arrange(weights: Weights) -> Weights:
        flat = flat_patches(weights, "vision_model.embeddings.patch_embedding.weight", vision)
        return _split_pool(flat, vision.width)

    model = DualEncoder(
        name="siglip",
        inputs=(
            image_input(folder, vision.image_size, _IMAGE),
            text_input(folder, text_settings, pad_to="max_tokens"),
        ),
        vision=vision,
        text=text,
        width=vision.width,
        build_vision=lambda at: SiglipVision(vision, at),
        build_text=lambda: SiglipText(text, vision.width),
        rename=_RENAME,
        ignore=_IGNORE,
        arrange=arrange,
    )
    return adapt_dual(model, folder)


def _check_heads(vision: VisionConfig, text: TextConfig, of_vision: Any, of_text: Any) -> None:
    if not of_vision.get("vision_use_head", True):
        raise CheckpointError("config.json: vision_config.vision_use_head is false, so there is no picture embedding")
    width = of_text.get("projection_size") or text.width
    if width != vision.width:
        raise CheckpointError(
            f"config.json: texts are embedded in {width} numbers (text_config.projection_size), pictures in "
            f"{vision.width} (vision_config.hidden_size); make them equal"
        )


def _split_pool(weights: Weights, width: int) -> Weights:
    """Return the weights with the head's fused projection as query, key and value."""
    expect_shape(weights, f"{_POOL}.in_proj_weight", (3 * width, width))
    expect_shape(weights, f"{_POOL}.in_proj_bias", (3 * width,))
    split = dict(weights)
    for kind in ("weight", "bias"):
        fused = split.pop(f"{_POOL}.in_proj_{kind}", None)
        if fused is not None:
            names = (f"{_POOL}.{projection}_proj.{kind}" for projection in "qkv")
            split.update(zip(names, fused.chunk(3), strict=True))
    return split


ARCHITECTURE = Architecture(model_type="siglip", adapt=adapt)
