"""TimeSformer (Bertasius et al., 2021) with divided space-time attention, from Hugging Face's TimeSformer classes.

With a classification head the answer is "class_scores", without one "video_embeddings", the class token's last hidden
state. The lever is `frames`: whole frames are left out, because attention over time needs every place in every frame.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import nn

from sanderling.compile.architecture import Adapted, Architecture
from sanderling.compile.blocks.divided import DividedEncoder
from sanderling.compile.checkpoint import Weights, expect_shape, read_weights
from sanderling.compile.settings import Settings
from sanderling.compile.video_checkpoint import PROJECTIONS, arrange, classes, video_config, zero_biases
from sanderling.compile.video_encoder import VideoModel
from sanderling.compile.video_encoder import adapt as adapt_video

_DEFAULTS = {
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "num_frames": 8,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "attention_type": "divided_space_time",
}


def adapt(folder: Path, config: dict[str, Any]) -> Adapted:
    """Return TimeSformer in a checkpoint folder as one component, "video", with lever `frames`.

    Raises:
        CheckpointError: the configuration makes no sense, or the weights do not fit it.
    """
    return adapt_video(describe(config, read_weights(folder)), folder)


def describe(config: dict[str, Any], stored: Weights) -> VideoModel:
    """Return TimeSformer as a config.json and its checkpoint's tensors say."""
    settings = Settings("TimesformerConfig", {**_DEFAULTS, **config})
    settings.choice("attention_type", ("divided_space_time",))
    video = video_config(settings, 1, settings.whole("patch_size"), class_token=True)
    bare = () if settings.values["qkv_bias"] else PROJECTIONS
    weights = zero_biases(_split(arrange(stored, "timesformer", video), video.width), bare)
    head = "classifier.weight" in weights
    labels = classes(config)

    def build_head() -> nn.Module:
        return nn.Sequential(OrderedDict(classifier=nn.Linear(video.width, labels))) if head else nn.Identity()

    return VideoModel(
        name="timesformer",
        config=video,
        lever="frames",
        units=video.frames,
        encoder=lambda at: DividedEncoder(video, at),
        head=build_head,
        answer="class_scores" if head else "video_embeddings",
        width=labels if head else video.width,
        weights=weights,
    )


def _split(weights: Weights, width: int) -> Weights:
    """Return the weights with every fused projection as query, key and value."""
    split = dict(weights)
    for name in weights:
        layer, _, kind = name.rpartition(".qkv.")
        if layer:
            expect_shape(weights, name, (3 * width, width) if kind == "weight" else (3 * width,))
            parts = split.pop(name).chunk(3)
            split.update(zip((f"{layer}.{part}.{kind}" for part in PROJECTIONS), parts, strict=True))
    return split


ARCHITECTURE = Architecture(model_type="timesformer", adapt=adapt)
