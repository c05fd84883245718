"""CrossViT (Chen et al., ICCV 2021), a reference construction: Hugging Face has no class for it.

A picture is cut into small and into large patches. Each set goes through a transformer of its own; after every block
the class token of either visits the patches of the other. So there are two token sets with a lever each,
`tokens.image_small` and `tokens.image_large`, in the components "small" and "large" (up to the end of the first block's
layers); "fusion" is all that follows. The last exchange hands back class tokens only, for nothing else is read.

The folder form: config.json with `model_type` "crossvit" and the arguments that the official constructor
(github.com/IBM/CrossViT) takes, `image_size` for each branch, `patch_size`, `embed_dim`, `depth`, `num_heads`,
`mlp_ratio`, `multi_conv` (true for the dagger variants) and `num_classes`; what is left out is as in crossvit_tiny.
model.safetensors has the official state dict as it is (`safetensors.torch.save_file(state_dict, ...)`):

    official tensor                                        ours
    patch_embed.B.proj (a convolution)                     B.encoder.patch_embedding, a linear layer on patches
    patch_embed.B.proj.0, .2, .4 (multi_conv)              B.encoder.stem.0, .2, .4
    cls_token.B, pos_embed.B                               B.encoder.class_embedding, .position_embedding
    blocks.0.blocks.B.L                                    B.encoder.layers.L
    blocks.K.blocks.B.L                                    fusion.blocks.K.blocks.B.L
    ….norm1, .attn.qkv, .attn.proj, .norm2, .mlp           ….layer_norm1, .self_attn.{q,k,v}_proj, .out_proj, …
    blocks.K.fusion.B.attn.{wq,wk,wv}, .proj               fusion.blocks.K.fusion.B.attn.{q,k,v}_proj, .out_proj
    blocks.K.projs.B, .revert_projs.B; norm.B; head.B      the same below "fusion"

B is 0 for "small" and 1 for "large". Pictures have the small branch's size; the large branch resizes them (bicubic).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanderling.compile.architecture import Adapted, Architecture, Part
from sanderling.compile.blocks.multiscale import STEM_PATCHES, Branch, Fusion
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.vision import VisionConfig
from sanderling.compile.checkpoint import Weights, digest, expect_shape, load, read_weights
from sanderling.compile.preparation import ImageDefaults, image_input
from sanderling.compile.projections import split_projections
from sanderling.compile.settings import Settings
from sanderling.compile.shared import filled, inner_layers, unreduced
from sanderling.spec import Component, InputSpec, Lever, ModelSpec, Site, TensorSpec

BRANCHES = ("small", "large")

_DEFAULTS: dict[str, Any] = {
    "image_size": [240, 224],
    "patch_size": [12, 16],
    "embed_dim": [96, 192],
    "depth": [[1, 4, 0], [1, 4, 0], [1, 4, 0]],
    "num_heads": [3, 3],
    "mlp_ratio": [4, 4, 1],
    "multi_conv": False,
    "num_classes": 1000,
    "layer_norm_eps": 1e-6,
}
_IMAGE = ImageDefaults(crop=True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_NUMBER = {"small": "0", "large": "1"}
_RENAME = (
    *((rf"^{b}\.encoder\.layers\.", rf"blocks.0.blocks.{n}.") for b, n in _NUMBER.items()),
    *((rf"^{b}\.encoder\.(patch_embedding|stem)\.", rf"patch_embed.{n}.proj.") for b, n in _NUMBER.items()),
    *((rf"^{b}\.encoder\.class_embedding$", f"cls_token.{n}") for b, n in _NUMBER.items()),
    *((rf"^{b}\.encoder\.position_embedding$", f"pos_embed.{n}") for b, n in _NUMBER.items()),
    (r"^fusion\.(blocks|norm|head)\.", r"\1."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
    (r"\.self_attn\.", ".attn."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"(fusion\.\d\.attn)\.([qkv])_proj\.", r"\1.w\2."),
)


@dataclass(frozen=True)
class CrossVitConfig:
    """Sizes: of both branches in every block, whether stems embed the patches, and the number of classes."""

    blocks: tuple[tuple[VisionConfig, VisionConfig], ...]
    stem: bool
    classes: int

    @property
    def side(self) -> int:
        """Of the pictures the model takes, in pixels."""
        return self.blocks[0][0].image_size


def read(config: dict[str, Any]) -> CrossVitConfig:
    """Return the sizes in config.json.

    Raises:
        CheckpointError: they make no sense.
    """
    settings = Settings("CrossViT", {**_DEFAULTS, **config})
    stem, depths = settings.flag("multi_conv"), settings.values["depth"]
    if not isinstance(depths, list) or not depths or not all(_is_depth(depth) for depth in depths):
        raise settings.wrong("depth", "blocks such as [1, 4, 0]: layers of either branch, and 0 for one exchange")
    sides, patches = settings.wholes("image_size", 2), settings.wholes("patch_size", 2)
    if any(side % patch for side, patch in zip(sides, patches, strict=True)):
        raise settings.wrong("image_size", f"multiples of patch_size, {list(patches)}")
    if stem and any(patch not in STEM_PATCHES for patch in patches):
        raise settings.wrong("patch_size", f"of {list(STEM_PATCHES)} each, because multi_conv is true")
    widths, heads = settings.wholes("embed_dim", 2), settings.wholes("num_heads", 2)
    if any(width % (4 if stem else 1) or width % number for width, number in zip(widths, heads, strict=True)):
        raise settings.wrong("embed_dim", f"multiples of num_heads, {list(heads)}{', and of 4' if stem else ''}")
    ratios, eps = settings.positives("mlp_ratio", 3), settings.positive("layer_norm_eps")
    fixed: dict[str, Any] = {"eps": eps, "class_token": True, "post_norm": False}
    small, large = (
        VisionConfig(sides[b], patches[b], widths[b], 1, heads[b], int(widths[b] * ratios[b]), **fixed) for b in (0, 1)
    )
    blocks = tuple((replace(small, layers=s), replace(large, layers=n)) for s, n, _ in depths)
    return CrossVitConfig(blocks, stem, settings.whole("num_classes"))


def _is_depth(depth: Any) -> bool:
    whole = isinstance(depth, list) and len(depth) == 3 and all(type(n) is int for n in depth)
    return whole and min(depth[:2]) >= 1 and depth[2] == 0


def builders(sizes: CrossVitConfig) -> dict[str, Callable[[ReduceAt | None], nn.Module]]:
    """Return what makes each component's module, weights not loaded."""
    small, large = sizes.blocks[0]
    first = (replace(small, layers=0), replace(large, layers=0))
    return {
        "small": lambda at: Branch(small, sizes.side, sizes.stem, at),
        "large": lambda at: Branch(large, sizes.side, sizes.stem, at),
        "fusion": unreduced("fusion", lambda: Fusion((first, *sizes.blocks[1:]), sizes.classes)),
    }


def adapt(folder: Path, config: dict[str, Any]) -> Adapted:
    """Return CrossViT in a checkpoint folder, split into "small", "large" and "fusion".

    Raises:
        CheckpointError: the configuration makes no sense, or the weights do not fit it.
    """
    sizes = read(config)
    makers = builders(sizes)
    with torch.device("meta"):
        whole = nn.ModuleDict({name: build(None) for name, build in makers.items()})
    load(whole, _arrange(read_weights(folder), sizes), _RENAME)
    parts = tuple(
        Part(name, filled(build, whole[name]), _example(name, sizes), probe=_probe(name, sizes))
        for name, build in makers.items()
    )
    return Adapted(_spec(sizes, image_input(folder, sizes.side, _IMAGE)), parts, digest(folder))


def _arrange(weights: Weights, sizes: CrossVitConfig) -> Weights:
    """Return the weights with flat patch convolutions and embeddings, and projections one by one."""
    arranged = split_projections(weights, ".qkv")
    for number, branch in enumerate(sizes.blocks[0]):
        patch, place = f"patch_embed.{number}.proj.weight", f"pos_embed.{number}"
        expect_shape(arranged, patch, (branch.width, branch.channels, branch.patch_size, branch.patch_size))
        expect_shape(arranged, f"cls_token.{number}", (1, 1, branch.width))
        expect_shape(arranged, place, (1, 1 + branch.tokens, branch.width))
        flat = {patch: (1, -1), place: (0, 1), f"cls_token.{number}": (0, -1)}
        arranged.update({n: arranged[n].flatten(*ends) for n, ends in flat.items() if n in arranged})
    return arranged


def _probe(name: str, sizes: CrossVitConfig) -> tuple[int, ...]:
    """Return the number of image tokens at which a branch's tokens are as many as its heads."""
    if name not in BRANCHES:
        return ()
    branch = sizes.blocks[0][BRANCHES.index(name)]
    return (branch.heads - 1,) if 2 <= branch.heads <= branch.tokens else ()


def _example(name: str, sizes: CrossVitConfig) -> tuple[Tensor, ...]:
    seeded = torch.Generator().manual_seed(0)
    if name in BRANCHES:
        return (torch.randn(2, 3, sizes.side, sizes.side, generator=seeded),)
    rows = [torch.randn(2, 1 + branch.tokens, branch.width, generator=seeded) for branch in sizes.blocks[0]]
    return rows[0], torch.ones_like(rows[0][..., 0]), rows[1], torch.ones_like(rows[1][..., 0])


def _spec(sizes: CrossVitConfig, picture: InputSpec) -> ModelSpec:
    pixels = TensorSpec("pixel_values", "float32", ("batch", 3, sizes.side, sizes.side))
    passed: list[TensorSpec] = []
    components: list[Component] = []
    levers: list[Lever] = []
    inputs: list[Site] = []
    inner: list[Site] = []
    for name, branch in zip(BRANCHES, sizes.blocks[0], strict=True):
        tokens = (
            TensorSpec(f"{name}_tokens", "float32", ("batch", f"{name}_rows", branch.width)),
            TensorSpec(f"{name}_sizes", "float32", ("batch", f"{name}_rows")),
        )
        kept = TensorSpec(f"image_{name}_kept", "int64", ("batch", f"image_{name}_tokens"))
        components.append(Component(name, (pixels,), (*tokens, kept)))
        passed += tokens
        lever = f"tokens.image_{name}"
        levers.append(Lever(lever, "tokens", minimum=1, maximum=branch.tokens, default=branch.tokens))
        inputs.append(Site(name, lever, "input", 0, kept.name))
        inner += [Site(name, lever, "inner", layer, kept.name) for layer in inner_layers(branch.layers)]
    scores = TensorSpec("logits", "float32", ("batch", sizes.classes))
    components.append(Component("fusion", tuple(passed), (scores,)))
    outputs = (scores.name, *(site.report for site in inputs))
    return ModelSpec("crossvit", (picture,), tuple(components), tuple(levers), (*inputs, *inner), outputs)


ARCHITECTURE = Architecture(model_type="crossvit", adapt=adapt)
