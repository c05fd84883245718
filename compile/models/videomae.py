"""VideoMAE (Tong et al., 2022), from checkpoints of Hugging Face's `VideoMAEForVideoClassification` or its encoder.

Without a classification head the answer is "video_embeddings", the mean of the last hidden state; a pre-training
checkpoint's decoder is left out.
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
    "patch_size": 16,
    "num_channels": 3,
    "num_frames": 16,
    "tubelet_size": 2,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "qv_bias": True,
    "use_mean_pooling": True,
}
_DECODER = ("decoder.*", "encoder_to_decoder.*", "mask_token")


def adapt(folder: Path, config: dict[str, Any]) -> Adapted:
    """Return VideoMAE in a checkpoint folder as one component, "video", with lever `tokens.video`.

    Raises:
        CheckpointError: the configuration makes no sense, or the weights do not fit it.
    """
    return adapt_video(describe(config, read_weights(folder)), folder)


def describe(config: dict[str, Any], stored: Weights) -> VideoModel:
    """Return VideoMAE as a config.json and its checkpoint's tensors say."""
    settings = Settings("VideoMAEConfig", {**_DEFAULTS, **config})
    mean = settings.values["use_mean_pooling"] is True
    video = video_config(
        settings,
        settings.whole("tubelet_size"),
        settings.whole("patch_size"),
        fixed_positions=True,
        post_norm=not mean,
    )
    bare = ("key",) if settings.values["qv_bias"] else PROJECTIONS
    weights = zero_biases(_named(arrange(stored, "videomae", video)), bare)
    head = "classifier.weight" in weights
    if head and not mean:
        raise CheckpointError(
            "config.json: use_mean_pooling is false, so the classes are read at the first patch, which may be left "
            "out; fine-tune with use_mean_pooling true"
        )
    labels = classes(config)

    def build_head() -> nn.Module:
        norm, classifier = nn.LayerNorm(video.width), nn.Linear(video.width, labels)
        return nn.Sequential(OrderedDict(fc_norm=norm, classifier=classifier)) if head else nn.Identity()

    return VideoModel(
        name="videomae",
        config=video,
        lever="tokens.video",
        units=video.tokens,
        encoder=lambda at: VideoEncoder(video, at),
        head=build_head,
        answer="class_scores" if head else "video_embeddings",
        width=labels if head else video.width,
        weights=weights,
        ignore=_DECODER,
    )


def _named(weights: Weights) -> Weights:
    """Return the weights with the biases that published checkpoints keep beside the layers under the layers' names."""
    return {n.replace(".q_bias", ".query.bias").replace(".v_bias", ".value.bias"): t for n, t in weights.items()}


ARCHITECTURE = Architecture(model_type="videomae", adapt=adapt)
