"""What can be taken out of a module built of the shared blocks: heads, feed-forward channels and whole layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import nn

from sanderling.compile.blocks.attention import Attention
from sanderling.compile.blocks.transformer import CrossLayer, EncoderLayer, FeedForward
from sanderling.errors import RecipeError

Kind: TypeAlias = Literal["heads", "channels", "layers"]
KINDS: tuple[Kind, ...] = ("heads", "channels", "layers")
LAYERS = (EncoderLayer, CrossLayer)
"""Layers that add to their input, so that the model still fits together without them."""


@dataclass(frozen=True)
class Group:
    """Units of one kind that live in one place.

    Attributes:
        kind: "heads" of one attention, "channels" of one feed-forward, "layers" of one stack.
        path: of the attention, the feed-forward or the ModuleList, as in `named_modules`.
        units: how many there are.
    """

    kind: Kind
    path: str
    units: int

    def inside(self, layers: Group, number: int) -> bool:
        """Return whether this group is part of layer `number`, counted from 0, of a stack."""
        prefix = f"{layers.path}." if layers.path else ""
        return f"{self.path}.".startswith(f"{prefix}{number}.")


Cuts: TypeAlias = Mapping[Group, tuple[int, ...]]
"""Group -> the units to remove, counted from 0."""


def find_groups(module: nn.Module) -> tuple[Group, ...]:
    """Return every group of a module, in the order of `named_modules`; empty where nothing can be pruned.

    Raises:
        RecipeError: a projection is no plain nn.Linear, so its rows cannot be taken out.
    """
    return tuple(_groups(module))


def _groups(module: nn.Module) -> Iterator[Group]:
    for path, part in module.named_modules():
        if isinstance(part, Attention):
            _check_plain(path, {name: getattr(part, f"{name}_proj") for name in ("q", "k", "v", "out")})
            yield Group("heads", path, part.heads)
        elif isinstance(part, FeedForward):
            _check_plain(path, {"fc1": part.fc1, "fc2": part.fc2})
            yield Group("channels", path, part.fc1.out_features)
        elif isinstance(part, nn.ModuleList) and _is_stack(part):
            yield Group("layers", path, len(part))


def outside(groups: Iterable[Group], cuts: Cuts) -> tuple[Group, ...]:
    """Return the groups that are in none of the layers that the cuts remove."""
    gone = [(stack, number) for stack, numbers in cuts.items() if stack.kind == "layers" for number in numbers]
    return tuple(group for group in groups if not any(group.inside(stack, number) for stack, number in gone))


def _is_stack(entries: nn.ModuleList) -> bool:
    """Return whether every entry is a layer of its own; one object listed twice is not."""
    return (
        len(entries) > 0
        and all(isinstance(entry, LAYERS) for entry in entries)
        and len({id(entry) for entry in entries}) == len(entries)
    )


def _check_plain(path: str, projections: Mapping[str, nn.Module]) -> None:
    for name, projection in projections.items():
        if type(projection) is not nn.Linear:
            raise RecipeError(
                f"projection {name!r} of {path or 'the module'} is {type(projection).__name__}, expected nn.Linear; "
                "prune before the step that replaced it"
            )
