"""What every video encoder shares: one component "video" from a clip to class scores or an embedding."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.blocks.pooling import mean_rows
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.transformer import ACTIVATIONS
from sanderling.compile.blocks.video import VideoConfig
from sanderling.compile.checkpoint import Weights, digest, expect_shape, load
from sanderling.compile.dual_encoder import filled, inner_layers
from sanderling.compile.settings import Settings
from sanderling.errors import CheckpointError
from sanderling.spec import ArrayInput, Component, Lever, ModelSpec, Site, TensorSpec

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


class VideoAnswer(nn.Module):
    """A clip -> what its head says, read at the class token or, where there is none, at the mean of the tokens."""

    def __init__(self, encoder: nn.Module, head: nn.Module, prefix: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.prefix = prefix

    def forward(self, pixel_values: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the answer and what is left of the clip.

        Args:
            pixel_values: float [batch, frames, channels, image_size, image_size], normalised.
            keep: tubes or frames to keep, int64 scalar; needed when the part reduces.

        Returns:
            float [batch, width], and int64 [batch, keep]: the tube or frame that each one left was.
        """
        tokens = self.encoder(pixel_values, keep)
        pooled = tokens.rows[:, 0] if self.prefix else mean_rows(tokens.rows, tokens.sizes)
        return self.head(pooled), tokens.kept[:, self.prefix :]


@dataclass(frozen=True)
class VideoModel:
    """A video encoder before its weights are loaded.

    Attributes:
        name: the family's, which stands in front of the names in checkpoints that have a head.
        config: sizes.
        lever: "tokens.video" or "frames".
        units: how many of these a whole clip has.
        encoder: makes the encoder; reduces at one site or not at all.
        head: makes what follows pooling.
        answer: name of its output.
        width: numbers in the answer.
        weights: the checkpoint's, as `arrange` and `zero_biases` return them.
        ignore: checkpoint tensors that the answer does not need, as shell patterns.
    """

    name: str
    config: VideoConfig
    lever: str
    units: int
    encoder: Callable[[ReduceAt | None], nn.Module]
    head: Callable[[], nn.Module]
    answer: str
    width: int
    weights: Weights
    ignore: tuple[str, ...] = ()

    def build(self, at: ReduceAt | None) -> nn.Module:
        """Return the whole part without its weights, reducing at one site or not at all."""
        return VideoAnswer(self.encoder(at), self.head(), 1 if self.config.class_token else 0)


def adapt(model: VideoModel, folder: Path) -> Adapted:
    """Return a video encoder with its weights loaded.

    Raises:
        CheckpointError: the weights do not fit.
    """
    with torch.device("meta"):
        whole = model.build(None)
    load(whole, model.weights, RENAME, model.ignore)
    # The class token takes part in attention over tubes, not over time.
    tokens = model.config.heads - (1 if model.config.class_token and model.lever != "frames" else 0)
    probe = (tokens,) if 1 <= tokens <= model.units else ()
    part = Part("video", lambda at: filled(model.build, at, whole), (_clip(model.config),), probe=probe)
    return Adapted(spec=_spec(model), parts=(part,), source=digest(folder))


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


def _spec(model: VideoModel) -> ModelSpec:
    config = model.config
    shape = ("batch", config.frames, config.channels, config.image_size, config.image_size)
    report = "frames_kept" if model.lever == "frames" else "video_kept"
    component = Component(
        "video",
        inputs=(TensorSpec("pixel_values", "float32", shape),),
        outputs=(
            TensorSpec(model.answer, "float32", ("batch", model.width)),
            TensorSpec(report, "int64", ("batch", "left")),
        ),
    )
    layers = (0, *inner_layers(config.layers))
    return ModelSpec(
        name=model.name,
        inputs=(ArrayInput("pixel_values", "float32", shape),),
        components=(component,),
        levers=(Lever(model.lever, model.lever.split(".")[0], 1, model.units, model.units),),
        sites=tuple(Site("video", model.lever, "input" if n == 0 else "inner", n, report) for n in layers),
        outputs=(model.answer, report),
    )


def _clip(config: VideoConfig) -> Tensor:
    seeded = torch.Generator().manual_seed(0)
    shape = (config.frames, config.channels, config.image_size, config.image_size)
    return torch.randn(2, *shape, generator=seeded)
