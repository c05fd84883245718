"""Tiny CrossViT and BiFormer checkpoints in the folder form, and the published sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

CROSSVIT: dict[str, Any] = {
    "model_type": "crossvit",
    "image_size": [24, 20],
    "patch_size": [6, 5],
    "embed_dim": [16, 24],
    "depth": [[1, 2, 0], [1, 1, 0]],
    "num_heads": [2, 3],
    "mlp_ratio": [2, 2, 1],
    "num_classes": 7,
}
DAGGER: dict[str, Any] = {**CROSSVIT, "image_size": [48, 32], "patch_size": [12, 16], "multi_conv": True}


def _crossvit(dims: list[int], layers: int, heads: int, ratio: int, **others: Any) -> dict[str, Any]:
    depth, ratios = [[1, layers, 0]] * 3, [ratio, ratio, 1]
    return {"embed_dim": dims, "depth": depth, "num_heads": [heads, heads], "mlp_ratio": ratios, **others}


_STEM: dict[str, Any] = {"multi_conv": True}
_LARGER: dict[str, Any] = {"multi_conv": True, "image_size": [408, 384]}
CROSSVIT_PUBLISHED: dict[str, tuple[dict[str, Any], float, float]] = {
    "tiny": (_crossvit([96, 192], 4, 3, 4), 7.015, 1.570),
    "small": (_crossvit([192, 384], 4, 6, 4), 26.856, 5.630),
    "base": (_crossvit([384, 768], 4, 12, 4), 105.025, 21.220),
    "9": (_crossvit([128, 256], 3, 4, 3), 8.553, 1.849),
    "15": (_crossvit([192, 384], 5, 6, 3), 27.528, 5.807),
    "18": (_crossvit([224, 448], 6, 7, 3), 43.271, 9.053),
    "9 dagger": (_crossvit([128, 256], 3, 4, 3, **_STEM), 8.777, 1.987),
    "15 dagger": (_crossvit([192, 384], 5, 6, 3, **_STEM), 28.209, 6.129),
    "18 dagger": (_crossvit([224, 448], 6, 7, 3, **_STEM), 44.267, 9.495),
    "15 dagger 408": (_crossvit([192, 384], 5, 6, 3, **_LARGER), 28.500, 21.447),
    "18 dagger 408": (_crossvit([224, 448], 6, 7, 3, **_LARGER), 44.607, 32.474),
}
"""Variant -> official arguments, millions of parameters and 10^9 multiply-adds."""


def noisy(name: str, shape: tuple[int, ...], seeded: torch.Generator) -> Tensor:
    """Return seeded values large enough that attention, norms and biases show; norms scale by about 1."""
    spread = 0.2 if len(shape) > 1 else 0.1
    noise = torch.randn(shape, generator=seeded) * spread
    if name.endswith("running_var"):
        return 1 + noise.abs()
    return 1 + noise if _scales(name) and len(shape) == 1 else noise


def _scales(name: str) -> bool:
    last = name.rpartition(".")[0].rpartition(".")[2]
    return name.endswith("weight") and (last.startswith("norm") or last.isdigit())


def write_folder(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    """Write config.json and model.safetensors, and return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


def crossvit_weights(config: dict[str, Any]) -> dict[str, Tensor]:
    """Return seeded weights under the official repository's names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for b, other in ((0, 1), (1, 0)):
        width, across, patch = config["embed_dim"][b], config["embed_dim"][other], config["patch_size"][b]
        tokens, hidden = 1 + (config["image_size"][b] // patch) ** 2, int(config["mlp_ratio"][b] * width)
        shapes[f"cls_token.{b}"], shapes[f"pos_embed.{b}"] = (1, 1, width), (1, tokens, width)
        if config.get("multi_conv"):
            for number, (before, after, kernel) in enumerate(
                ((3, width // 4, 7), (width // 4, width // 2, 3), (width // 2, width, 3))
            ):
                shapes |= _layer(f"patch_embed.{b}.proj.{2 * number}", after, before, kernel, kernel)
        else:
            shapes |= _layer(f"patch_embed.{b}.proj", width, 3, patch, patch)
        for k, depth in enumerate(config["depth"]):
            for number in range(depth[b]):
                at = f"blocks.{k}.blocks.{b}.{number}"
                shapes |= _layer(f"{at}.norm1", width) | _layer(f"{at}.norm2", width)
                shapes |= _layer(f"{at}.attn.qkv", 3 * width, width) | _layer(f"{at}.attn.proj", width, width)
                shapes |= _layer(f"{at}.mlp.fc1", hidden, width) | _layer(f"{at}.mlp.fc2", width, hidden)
            shapes |= _layer(f"blocks.{k}.projs.{b}.0", width) | _layer(f"blocks.{k}.projs.{b}.2", across, width)
            shapes |= _layer(f"blocks.{k}.revert_projs.{b}.0", across)
            shapes |= _layer(f"blocks.{k}.revert_projs.{b}.2", width, across)
            shapes |= _layer(f"blocks.{k}.fusion.{b}.norm1", across)
            for part in ("wq", "wk", "wv", "proj"):
                shapes |= _layer(f"blocks.{k}.fusion.{b}.attn.{part}", across, across)
        shapes |= _layer(f"norm.{b}", width) | _layer(f"head.{b}", config["num_classes"], width)
    return _filled(shapes)


def _layer(name: str, *shape: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def _filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    seeded = torch.Generator().manual_seed(1)
    return {name: noisy(name, shape, seeded) for name, shape in shapes.items()}


def parameters_of(build: Any, names: tuple[str, ...]) -> int:
    """Return the parameters of modules that are built on the meta device."""
    with torch.device("meta"):
        modules: list[nn.Module] = [build[name](None) for name in names]
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


BIFORMER: dict[str, Any] = {
    "model_type": "biformer",
    "image_size": 64,
    "depth": [1, 1, 2, 1],
    "embed_dim": [8, 16, 16, 32],
    "head_dim": 4,
    "mlp_ratios": [2, 2, 2, 2],
    "n_win": 4,
    "topks": [1, 4, 8, -2],
    "num_classes": 7,
}
BIFORMER_PUBLISHED: dict[str, tuple[list[int], list[int], float, float]] = {
    "tiny": ([2, 2, 8, 2], [64, 128, 256, 512], 13.143, 2.228),
    "small": ([4, 4, 18, 4], [64, 128, 256, 512], 25.536, 4.487),
    "base": ([4, 4, 18, 4], [96, 192, 384, 768], 56.805, 9.795),
}
"""Variant -> depth, embed_dim, millions of parameters and 10^9 multiply-adds."""

BIFORMER_ROUTED: dict[tuple[int, int, int], float] = {
    (1, 1, 4): 2.170,
    (1, 2, 8): 2.190,
    (1, 4, 16): 2.228,
    (1, 8, 32): 2.305,
    (4, 16, 49): 2.565,
    (49, 49, 49): 5.089,
}
"""Regions that the three routed stages of the tiny variant look at -> 10^9 multiply-adds."""


def biformer_weights(config: dict[str, Any]) -> dict[str, Tensor]:
    """Return seeded weights under the official repository's names."""
    widths, shapes = config["embed_dim"], dict[str, tuple[int, ...]]()
    halves = [(3, widths[0] // 2, "0.0", "0.1"), (widths[0] // 2, widths[0], "0.3", "0.4")]
    halves += [(widths[s - 1], widths[s], f"{s}.0", f"{s}.1") for s in (1, 2, 3)]
    for before, width, conv, norm in halves:
        shapes |= _layer(f"downsample_layers.{conv}", width, before, 3, 3)
        shapes |= _batch_norm(f"downsample_layers.{norm}", width)
    for stage, (depth, width) in enumerate(zip(config["depth"], widths, strict=True)):
        hidden = width * config["mlp_ratios"][stage]
        qkv, out = ("qkv.qkv", "wo") if stage < 3 else ("qkv", "proj")
        for number in range(depth):
            at = f"stages.{stage}.{number}"
            shapes |= _layer(f"{at}.pos_embed", width, 1, 3, 3) | _layer(f"{at}.attn.lepe", width, 1, 5, 5)
            shapes |= _layer(f"{at}.norm1", width) | _layer(f"{at}.norm2", width)
            shapes |= _layer(f"{at}.attn.{qkv}", 3 * width, width, bias=stage < 3)
            shapes |= _layer(f"{at}.attn.{out}", width, width)
            shapes |= _layer(f"{at}.mlp.0", hidden, width) | _layer(f"{at}.mlp.3", width, hidden)
    shapes |= _batch_norm("norm", widths[3]) | _layer("head", config["num_classes"], widths[3])
    counters = {f"{n.removesuffix('running_var')}num_batches_tracked" for n in shapes if n.endswith("running_var")}
    return _filled(shapes) | {name: torch.tensor(9) for name in counters}


def _batch_norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return _layer(name, width) | {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
