"""Checkpoints of Hugging Face's video models: one way to name tensors, whatever the family."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from sanderling.compile.blocks.transformer import ACTIVATIONS
from sanderling.compile.blocks.video import VideoConfig
from sanderling.compile.checkpoint import Weights, expect_shape
from sanderling.compile.settings import Settings
from sanderling.errors import CheckpointError

PROJECTIONS = ("query", "key", "value")

PATCHES = "embeddings.patch_embeddings.projection.weight"

RENAME = (
    (r"^encoder\.(class|position|patch|time)_embedding", r"embeddings.\1_embeddings"),
    (r"class_embeddings$", "cls_token"),
    (r"patch_embeddings\.", "patch_embeddings.projection."),
    (r"^encoder\.layers\.", "encoder.layer."),
    (r"^encoder\.post_layernorm\.", "layernorm."),
    (r"\.self_attn\.", ".attention."),
    (r"\.time_attn\.", ".temporal_attention."),
    (r"\.(q|k|v)_proj\.", r".attention.\1_proj."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.out_proj\.", ".output.dense."),
    (r"\.layer_norm1\.", ".layernorm_before."),
    (r"\.layer_norm2\.", ".layernorm_after."),
    (r"\.layer_norm_time\.", ".temporal_layernorm."),
    (r"\.time_dense\.", ".temporal_dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"^head\.", ""),
)
"""From our parameter names to those of Hugging Face's video models, without the family's name in front."""


def arrange(stored: Weights, name: str, config: VideoConfig) -> Weights:
    """Return a checkpoint's tensors without the family's name in front, the tube convolution as a linear layer.

    Raises:
        CheckpointError: the convolution is not of the configured shape.
    """
    weights = {key.removeprefix(f"{name}."): tensor for key, tensor in stored.items()}
    # The 2-D convolution of single frames has no axis for time.
    time = () if PATCHES in weights and weights[PATCHES].ndim == 4 and config.tube == 1 else (config.tube,)
    expect_shape(weights, PATCHES, (config.width, config.channels, *time, config.patch_size, config.patch_size))
    flat = {"embeddings.cls_token": (0, 1), "embeddings.position_embeddings": (0,), "embeddings.time_embeddings": (0,)}
    for key, axes in flat.items():
        if key in weights:
            weights[key] = _without(weights[key], axes)
    if PATCHES in weights:
        weights[PATCHES] = weights[PATCHES].flatten(1)
    return weights


def zero_biases(weights: Weights, projections: Collection[str]) -> Weights:
    """Return the weights with biases of zero for the projections that the configuration gives none.

    Args:
        weights: as `arrange` returns them, queries, keys and values apart.
        projections: some of `PROJECTIONS`.
    """
    added = {
        name.removesuffix("weight") + "bias": torch.zeros(tensor.shape[:1])
        for name, tensor in weights.items()
        if name.split(".")[-2:] in [[projection, "weight"] for projection in projections]
    }
    clash = sorted(set(added) & set(weights))
    if clash:
        raise CheckpointError(
            f"the weights have {clash[0]!r}, but config.json says that queries, keys or values have no bias there; "
            "take both files from the same `save_pretrained`"
        )
    return weights | added


def video_config(settings: Settings, tube: int, patch_size: int, **family: Any) -> VideoConfig:
    """Return the sizes in a config.json; `family` gives what the family decides.

    Raises:
        CheckpointError: a value makes no sense, or a clip has fewer frames than one tube.
    """
    frames, side = settings.whole("num_frames"), settings.whole("image_size")
    if frames < tube:
        raise CheckpointError(
            f"config.json: {settings.where}.num_frames is {frames}, fewer than the {tube} of one tube (tubelet_size)"
        )
    if side < patch_size:
        raise CheckpointError(
            f"config.json: {settings.where}.image_size is {side}, smaller than one patch of {patch_size} pixels"
        )
    return VideoConfig(
        image_size=side,
        patch_size=patch_size,
        width=settings.whole("hidden_size"),
        layers=settings.whole("num_hidden_layers"),
        heads=settings.heads(),
        hidden=settings.whole("intermediate_size"),
        activation=settings.choice("hidden_act", ACTIVATIONS),
        eps=settings.positive("layer_norm_eps"),
        channels=settings.equal("num_channels", 3),
        frames=frames,
        tube=tube,
        **family,
    )


def classes(config: Mapping[str, Any]) -> int:
    """Return how many classes config.json names; Hugging Face leaves out its two default ones.

    Raises:
        CheckpointError: `id2label` is no object.
    """
    labels = config.get("id2label")
    if labels is not None and not isinstance(labels, dict):
        raise CheckpointError(f"config.json: id2label is {labels!r}, expected an object from class number to name")
    return 2 if labels is None else len(labels)


def _without(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return a tensor without leading axes of length 1; any other form is left for `load` to refuse."""
    lengths = tensor.shape[: len(axes)]
    return tensor.reshape(tensor.shape[len(axes) :]) if tensor.ndim == 3 and set(lengths) == {1} else tensor
