"""Gates of 1 on what every unit adds to the model; the gradient at a gate says what removing the unit would do.

Heads are gated before the output projection, channels before the second linear layer, and a layer at everything that it
adds to its input, so that a gate of 0 is the pruned model. Every sample has gates of its own: one backward pass gives
each sample's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sanderling.compile.blocks.attention import Attention
from sanderling.compile.blocks.transformer import FeedForward
from sanderling.compile.pruning.groups import Group
from sanderling.errors import RecipeError


class Gates:
    """The gates of one forward pass, group by group.

    Attributes:
        settings: group -> [units] values of its gates; 1 where a group is not listed.
    """

    def __init__(self, settings: dict[Group, Tensor] | None = None) -> None:
        self.settings = settings or {}
        self._used: list[tuple[Group, int, Tensor]] = []

    def make(self, group: Group, first: int, count: int, like: Tensor) -> Tensor:
        """Return gates [batch, count] for units `first` and up, beside the activations `like` [batch, ...]."""
        values = self.settings.get(group)
        row = torch.ones(count) if values is None else values[first : first + count]
        gate = row.to(like).repeat(like.shape[0], 1).requires_grad_()
        self._used.append((group, first, gate))
        return gate

    def gradients(self, groups: Sequence[Group], total: Tensor, batch: int) -> dict[Group, Tensor]:
        """Return the gradient of a scalar at every gate, [batch, units]; the graph is kept for another call.

        Raises:
            RecipeError: a block ran on another number of rows than there are samples.
        """
        odd = [(group, gate) for group, _, gate in self._used if gate.shape[0] != batch]
        if odd:
            raise RecipeError(
                f"{odd[0][0].path!r} ran on {odd[0][1].shape[0]} rows for {batch} samples; importance by gradients "
                "needs one row per sample there, choose importance magnitude"
            )
        found = {group: torch.zeros(batch, group.units, dtype=torch.float64) for group in groups}
        wanted = [gate for _, _, gate in self._used]
        slopes = torch.autograd.grad(total, wanted, retain_graph=True, allow_unused=True)
        for (group, first, gate), slope in zip(self._used, slopes, strict=True):
            if slope is not None:
                found[group][:, first : first + gate.shape[1]] += slope.double().cpu()
        return found


@contextmanager
def gated(module: nn.Module, groups: Sequence[Group], settings: dict[Group, Tensor] | None = None) -> Iterator[Gates]:
    """Put gates on the groups while the context lasts, and yield what collects them.

    Args:
        module: built of the shared blocks.
        groups: of the module.
        settings: group -> [units] values of the gates, 1 unless given; 0 masks a unit.
    """
    gates = Gates(settings)
    with ExitStack() as hooks:
        for group in groups:
            for part, first, hook in _hooks(module, group):
                gate = _before(gates, group) if hook == "input" else _after(gates, group, first)
                register = part.register_forward_pre_hook if hook == "input" else part.register_forward_hook
                hooks.callback(register(gate).remove)
        yield gates


def _hooks(module: nn.Module, group: Group) -> Iterator[tuple[nn.Module, int, str]]:
    """Yield the linear layers to gate, the first unit that each gates, and on which side."""
    part = module.get_submodule(group.path)
    if isinstance(part, Attention):
        yield part.out_proj, 0, "input"
    elif isinstance(part, FeedForward):
        yield part.fc2, 0, "input"
    else:
        for number, layer in enumerate(part.children()):
            for piece in layer.children():
                if isinstance(piece, Attention):
                    yield piece.out_proj, number, "output"
                elif isinstance(piece, FeedForward):
                    yield piece.fc2, number, "output"


def _before(gates: Gates, group: Group) -> Callable[..., Any]:
    def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        x = arguments[0]  # [batch, n, units * width of one]
        gate = gates.make(group, 0, group.units, x)
        return ((x.unflatten(-1, (group.units, -1)) * gate[:, None, :, None]).flatten(-2),)  # type: ignore[no-untyped-call]

    return hook


def _after(gates: Gates, group: Group, number: int) -> Callable[..., Any]:
    def hook(_: nn.Module, __: tuple[Tensor, ...], x: Tensor) -> Tensor:
        return x * gates.make(group, number, 1, x)[:, None]

    return hook
