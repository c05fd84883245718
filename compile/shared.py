"""What architectures share when they make their parts from loaded weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from sanderling.compile.architecture import Build
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.errors import InternalError

_DEPTHS = (1 / 6, 1 / 4, 1 / 3, 1 / 2)
"""Where inner sites are, as parts of the depth: earlier saves more, later chooses better."""


def filled(build: Build, loaded: nn.Module) -> Build:
    """Return the part's `build`: new modules that share the loaded one's parameters; a reducer has none of its own."""

    def build_at(at: ReduceAt | None) -> nn.Module:
        with torch.device("meta"):
            module = build(at)
        module.load_state_dict(loaded.state_dict(), assign=True)
        return module.eval()

    return build_at


def unreduced(component: str, build: Callable[[], nn.Module]) -> Build:
    """Return the `build` of a component without a site."""

    def build_at(at: ReduceAt | None) -> nn.Module:
        if at is not None:
            raise InternalError(f"the {component} component has no site for {at.label}")
        return build()

    return build_at


def inner_layers(layers: int) -> tuple[int, ...]:
    """Return after which layers tokens can be reduced: about 1/6, 1/4, 1/3 and 1/2 of the depth, before the last."""
    return tuple(sorted({max(1, round(layers * part)) for part in _DEPTHS} - {layers}))
