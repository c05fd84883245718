"""What every video encoder shares: one component "video" from a clip to class scores or an embedding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.blocks.pooling import mean_rows
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.video import VideoConfig
from sanderling.compile.checkpoint import Weights, digest, load
from sanderling.compile.shared import filled, inner_layers
from sanderling.compile.video_checkpoint import RENAME
from sanderling.spec import ArrayInput, Component, Lever, ModelSpec, Site, TensorSpec


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
    part = Part("video", filled(model.build, whole), (_clip(model.config),), probe=probe)
    return Adapted(spec=_spec(model), parts=(part,), source=digest(folder))


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
