"""ViViT (Arnab et al., 2021; the model with joint attention), from checkpoints of Hugging Face's ViViT classes.

With a classification head the answer is "class_scores". Without one it is "video_embeddings", read at the class token,
through the pooler where the checkpoint has one.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import nn

from sanderling.compile.architecture import Adapted, Architecture
from sanderling.compile.blocks.video import VideoEncoder
from sanderling.compile.checkpoint import Weights, read_weights
from sanderling.compile.settings import Settings
from sanderling.compile.video_checkpoint import PROJECTIONS, arrange, classes, video_config, zero_biases
from sanderling.compile.video_encoder import VideoModel
from sanderling.compile.video_encoder import adapt as adapt_video
from sanderling.errors import CheckpointError

_DEFAULTS = {
    "image_size": 224,
    "num_frames": 32,
    "tubelet_size": [2, 16, 16],
    "num_channels": 3,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu_fast",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "pooler_output_size": None,
    "pooler_act": "tanh",
}


def adapt(folder: Path, config: dict[str, Any]) -> Adapted:
    """Return ViViT in a checkpoint folder as one component, "video", with lever `tokens.video`.

    Raises:
        CheckpointError: the configuration makes no sense, or the weights do not fit it.
    """
    return adapt_video(describe(config, read_weights(folder)), folder)


def describe(config: dict[str, Any], stored: Weights) -> VideoModel:
    """Return ViViT as a config.json and its checkpoint's tensors say."""
    settings = Settings("VivitConfig", {**_DEFAULTS, **config})
    tube, patch = _tubelet(settings.values["tubelet_size"])
    video = video_config(settings, tube, patch, class_token=True)
    weights = zero_biases(arrange(stored, "vivit", video), () if settings.values["qkv_bias"] else PROJECTIONS)
    head, pooler = "classifier.weight" in weights, "pooler.dense.weight" in weights
    labels = classes(config)
    pooled = settings.whole("pooler_output_size") if settings.values["pooler_output_size"] else video.width
    if pooler:
        settings.choice("pooler_act", ("tanh",))

    def build_head() -> nn.Module:
        if head:
            return nn.Sequential(OrderedDict(classifier=nn.Linear(video.width, labels)))
        if pooler:
            layer = nn.Sequential(OrderedDict(dense=nn.Linear(video.width, pooled), tanh=nn.Tanh()))
            return nn.Sequential(OrderedDict(pooler=layer))
        return nn.Identity()

    return VideoModel(
        name="vivit",
        config=video,
        lever="tokens.video",
        units=video.tokens,
        encoder=lambda at: VideoEncoder(video, at),
        head=build_head,
        answer="class_scores" if head else "video_embeddings",
        width=labels if head else pooled if pooler else video.width,
        weights=weights,
    )


def _tubelet(size: Any) -> tuple[int, int]:
    """Return frames and side of a tube."""
    whole = isinstance(size, (list, tuple)) and len(size) == 3 and all(type(n) is int and n > 0 for n in size)
    if not whole or size[1] != size[2]:
        raise CheckpointError(
            f"config.json: VivitConfig.tubelet_size is {size!r}, expected [frames, side, side], whole numbers from 1"
        )
    return size[0], size[1]


ARCHITECTURE = Architecture(model_type="vivit", adapt=adapt)
