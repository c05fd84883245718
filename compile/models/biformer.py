"""BiFormer (Zhu et al., CVPR 2023), a reference construction: Hugging Face has no class for it.

Four stages of convolutions and attention over regions of the map; in the first three a region looks at a few others,
those that match it best. How many is the lever `regions`, counted in the last routed stage; earlier stages look at
fewer in the published proportion, rounded down and at least 1. Reducers choose which: "saliency" is the published rule,
the others are what it has to beat. Weights stay as they are. The lever ends at the published number, where only the
published rule is the full model.

The folder form: config.json with `model_type` "biformer" and the arguments that the official constructor
(github.com/rayleizhu/BiFormer, models/biformer.py) takes, `depth`, `embed_dim`, `head_dim`, `mlp_ratios`, `n_win`,
`topks` and `num_classes`, and `image_size`; what is left out is as in biformer_tiny. model.safetensors has the
official state dict, the "model" entry of a published file, as it is:

    official tensor                                        ours
    downsample_layers.0.0, .1, .3, .4; .S.0, .1            the same; counters of batch norm are left out
    stages.S.L.pos_embed, .norm1, .norm2; norm; head       the same
    stages.S.L.attn.qkv.qkv (stages 0 to 2), .attn.wo      .attn.{q,k,v}_proj, .attn.out_proj
    stages.3.L.attn.qkv, .attn.proj                        .attn.{q,k,v}_proj, .attn.out_proj
    stages.S.L.attn.lepe                                   the same
    stages.S.L.mlp.0, .3                                   .mlp.fc1, .mlp.fc2
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanderling.compile.architecture import Adapted, Architecture, Part
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.routing import (
    FrozenBatchNorm,
    MapAttention,
    RoutedAttention,
    RoutedLayer,
    WholeAttention,
)
from sanderling.compile.checkpoint import digest, load, read_weights
from sanderling.compile.preparation import ImageDefaults, image_input
from sanderling.compile.projections import split_projections
from sanderling.compile.settings import Settings
from sanderling.compile.shared import filled
from sanderling.reduction import Reducer
from sanderling.spec import Component, Lever, ModelSpec, Site, TensorSpec

LEVER = "regions"
WHOLE = -2
"""What `topks` says for attention over the whole map."""

_WHOLE_HEADS = 8
"""Heads of that attention, whatever its width."""

_EPS = 1e-6
_DEFAULTS: dict[str, Any] = {
    "image_size": 224,
    "depth": [2, 2, 8, 2],
    "embed_dim": [64, 128, 256, 512],
    "head_dim": 32,
    "mlp_ratios": [3, 3, 3, 3],
    "n_win": 7,
    "topks": [1, 4, 16, WHOLE],
    "num_classes": 1000,
}
_IMAGE = ImageDefaults(crop=True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_RENAME = (
    (r"^(stages\.3\..*\.attn\.)out_proj\.", r"\1proj."),
    (r"\.attn\.out_proj\.", ".attn.wo."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
)
_IGNORE = ("*.num_batches_tracked",)


@dataclass(frozen=True)
class BiFormerConfig:
    """Sizes, one entry per stage where there are several; `most` has the regions looked at in the routed stages."""

    image_size: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    head_width: int
    ratios: tuple[float, ...]
    side: int
    most: tuple[int, ...]
    classes: int


def read(config: dict[str, Any]) -> BiFormerConfig:
    """Return the sizes in config.json.

    Raises:
        CheckpointError: they make no sense.
    """
    settings = Settings("BiFormer", {**_DEFAULTS, **config})
    pixels, side, head = (settings.whole(key) for key in ("image_size", "n_win", "head_dim"))
    # The third stage's map is a sixteenth of the picture, and regions have to tile it.
    if pixels % 32 or pixels // 16 % side:
        raise settings.wrong("image_size", f"a multiple of 32 and of 16 * n_win, {16 * side}")
    widths = settings.wholes("embed_dim", 4)
    if widths[0] % 2 or any(width % head for width in widths[:3]) or widths[3] % _WHOLE_HEADS:
        raise settings.wrong("embed_dim", f"multiples of head_dim, {head}, the last one of {_WHOLE_HEADS}")
    topks = settings.values["topks"]
    right = isinstance(topks, list) and len(topks) == 4 and all(type(k) is int for k in topks)
    if not right or topks[3] != WHOLE or not all(1 <= k <= side * side for k in topks[:3]):
        raise settings.wrong("topks", f"three numbers of regions, 1 to {side * side}, and {WHOLE}")
    ratios, depths = settings.positives("mlp_ratios", 4), settings.wholes("depth", 4)
    return BiFormerConfig(
        pixels, depths, widths, head, ratios, side, tuple(topks[:3]), settings.whole("num_classes")
    )  # fmt: skip


class BiFormer(nn.Module):
    """Picture -> class scores."""

    def __init__(self, config: BiFormerConfig, reduce_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.config = config
        reducer = None if reduce_at is None else reduce_at.reducer
        widths = config.widths
        self.downsample_layers = nn.ModuleList([_stem(widths[0]), *map(_halve, widths, widths[1:])])
        self.stages = nn.ModuleList(
            nn.ModuleList(self._layer(stage, reducer) for _ in range(depth))
            for stage, depth in enumerate(config.depths)
        )
        self.norm = FrozenBatchNorm(widths[-1])
        self.head = nn.Linear(widths[-1], config.classes)

    def forward(self, pixel_values: Tensor, regions: Tensor | None = None) -> Tensor:
        """Return class scores.

        Args:
            pixel_values: float [batch, 3, image_size, image_size], normalised.
            regions: to look at in the last routed stage, int64 scalar; needed when a reducer chooses them.

        Returns:
            float [batch, classes]
        """
        x = pixel_values
        for stage, (halve, layers) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x, keep = halve(x), self._keep(stage, regions)
            for layer in layers:  # type: ignore[attr-defined]
                x = layer(x, *keep)
        scores: Tensor = self.head(self.norm(x).flatten(2).mean(-1))
        return scores

    def _keep(self, stage: int, regions: Tensor | None) -> tuple[Tensor, ...]:
        most = self.config.most
        if regions is None or stage == len(most):
            return ()
        # In floats, because a whole-number division becomes operators that TensorRT does not take.
        fewer = (regions.to(torch.float32) * most[stage] / most[-1]).floor()
        return (torch.clamp(fewer, min=1, max=most[stage]).to(torch.int64),)

    def _layer(self, stage: int, reducer: Reducer | None) -> RoutedLayer:
        config, width = self.config, self.config.widths[stage]
        attention: MapAttention = WholeAttention(width, _WHOLE_HEADS)
        if stage < len(config.most):
            heads = width // config.head_width
            attention = RoutedAttention(width, heads, config.side, config.most[stage], reducer)
        return RoutedLayer(width, attention, int(width * config.ratios[stage]), _EPS)


def _halve(width: int, to: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, to, 3, stride=2, padding=1), FrozenBatchNorm(to))


def _stem(width: int) -> nn.Sequential:
    return nn.Sequential(*_halve(3, width // 2), nn.GELU(), *_halve(width // 2, width))


def adapt(folder: Path, config: dict[str, Any]) -> Adapted:
    """Return BiFormer in a checkpoint folder, as the one component "vision".

    Raises:
        CheckpointError: the configuration makes no sense, or the weights do not fit it.
    """
    sizes = read(config)
    with torch.device("meta"):
        whole = BiFormer(sizes)
    weights = split_projections(split_projections(read_weights(folder), ".qkv.qkv"), ".qkv")
    load(whole, weights, _RENAME, _IGNORE)
    side = sizes.image_size
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    part = Part("vision", filled(lambda at: BiFormer(sizes, at), whole), (pixels,))
    spec = ModelSpec(
        name="biformer",
        inputs=(image_input(folder, side, _IMAGE),),
        components=(
            Component(
                "vision",
                (TensorSpec("pixel_values", "float32", ("batch", 3, side, side)),),
                (TensorSpec("logits", "float32", ("batch", sizes.classes)),),
            ),
        ),
        levers=(Lever(LEVER, "regions", minimum=1, maximum=sizes.most[-1], default=sizes.most[-1]),),
        sites=(Site("vision", LEVER, "inner", 1),),
        outputs=("logits",),
    )
    return Adapted(spec, (part,), digest(folder))


ARCHITECTURE = Architecture(model_type="biformer", adapt=adapt)
