"""Modules built of the shared blocks with inputs, and masking by zeroed weights, written apart from the surgery."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dual_encoders import clip, ids, pixels, siglip
from torch import Tensor, nn

from examples.scene_qa import model as scene
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.transformer import CrossLayer, EncoderLayer
from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.pruning.groups import Cuts

Built = Callable[[ReduceAt | None], nn.Module]
WIDTH, HEADS, HIDDEN = 16, 4, 24


def enlarged(module: nn.Module) -> nn.Module:
    """Fill with seeded values so large that every unit shows in the output."""
    seeded = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=seeded) * 0.3
    return module.eval()


class Stack(nn.Module):
    """Encoder layers, then cross layers that look at the input, [batch, n, 16] -> the same shape."""

    def __init__(self, encoders: int = 2, crosses: int = 2) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(EncoderLayer(WIDTH, HEADS, HIDDEN) for _ in range(encoders))
        self.crosses = nn.ModuleList(CrossLayer(WIDTH, HEADS, HIDDEN, WIDTH) for _ in range(crosses))

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after all layers."""
        rows = x
        for layer in self.encoders:
            rows = layer(rows)
        for layer in self.crosses:
            rows = layer(rows, x)
        return rows


def stack(encoders: int = 2, crosses: int = 2) -> nn.Module:
    """Return a stack with weights that show."""
    return enlarged(Stack(encoders, crosses))


def tokens(batch: int = 3, n: int = 5, seed: int = 0) -> Tensor:
    """Return seeded tokens [batch, n, 16]."""
    return torch.randn(batch, n, WIDTH, generator=torch.Generator().manual_seed(seed))


def families(folder: Path) -> dict[str, tuple[Built, tuple[Tensor, ...]]]:
    """Return every component of CLIP, SigLIP and scene_qa: how it is built, and inputs."""
    found: dict[str, tuple[Built, tuple[Tensor, ...]]] = {}
    for name, model in (("clip", clip()), ("siglip", siglip())):
        model.save_pretrained(folder / name)
        for part in adapt_folder(folder / name).parts:
            assert part.build is not None
            found[f"{name}.{part.component}"] = (
                part.build,
                (pixels(),) if part.component == "vision" else (ids(3, 11),),
            )
    words = torch.tensor([[2, 3, 4, 0], [5, 6, 7, 8]])
    rows = torch.randn(2, 4, scene.WIDTH, generator=torch.Generator().manual_seed(4))
    patches = torch.randn(2, 9, scene.WIDTH, generator=torch.Generator().manual_seed(5))
    pictures = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(6))
    found["scene.vision"] = (lambda at: _settled(lambda: scene.SceneVision(at)), (pictures,))
    found["scene.text"] = (lambda _: _settled(scene.SceneText), (words,))
    found["scene.fusion"] = (lambda _: _settled(scene.SceneFusion), (rows, words, patches, torch.ones(2, 9)))
    return found


def _settled(make: Callable[[], nn.Module]) -> nn.Module:
    """Return the same untrained module at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return make().eval()


def masked(module: nn.Module, cuts: Cuts) -> nn.Module:
    """Return a copy of full size with the weights of the cut units at zero."""
    made = copy.deepcopy(module)
    with torch.no_grad():
        for group, units in cuts.items():
            part: Any = made.get_submodule(group.path)
            for unit in units:
                if group.kind == "heads":
                    at = slice(unit * part.head_width, (unit + 1) * part.head_width)
                    for projection in (part.q_proj, part.k_proj, part.v_proj):
                        projection.weight[at] = projection.bias[at] = 0
                    part.out_proj.weight[:, at] = 0
                elif group.kind == "channels":
                    part.fc2.weight[:, unit] = 0
                else:
                    for name, value in part[unit].named_parameters():
                        if "out_proj" in name or "fc2" in name:
                            value.zero_()
    return made


def answers(module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """Return the outputs as a list."""
    with torch.inference_mode():
        returned = module(*inputs)
    return list(returned) if isinstance(returned, tuple) else [returned]
