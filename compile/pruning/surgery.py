"""The smaller module: what is cut is gone from the tensors, not set to zero."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sanderling.compile.blocks.attention import Attention
from sanderling.compile.blocks.transformer import FeedForward
from sanderling.compile.pruning.groups import Cuts, Group, find_groups
from sanderling.errors import RecipeError


def prune_module(module: nn.Module, cuts: Cuts) -> nn.Module:
    """Return a smaller copy that computes what the module computes with the cut units masked to zero.

    The copy owns its weights, in the mode the module was in, and can be trained on; the module given is left as it is.
    A reducer inside the encoder sees the mean over the heads that are left.

    Args:
        module: built of the shared blocks.
        cuts: what to remove. Groups inside removed layers may be named too; they go with the layer.

    Raises:
        RecipeError: the cuts name what the module does not have, or leave nothing of a group.
    """
    _check(find_groups(module), cuts)
    smaller = copy.deepcopy(module)
    # Layers last: they renumber the paths of everything behind them.
    for group in sorted(cuts, key=lambda group: group.kind == "layers"):
        kept = [unit for unit in range(group.units) if unit not in set(cuts[group])]
        if len(kept) < group.units:
            _keep(smaller.get_submodule(group.path), kept)
    return smaller


def _check(known: Sequence[Group], cuts: Cuts) -> None:
    for group, units in cuts.items():
        if group not in known:
            here = ", ".join(f"{g.units} {g.kind} of {g.path!r}" for g in known) or "nothing to prune"
            raise RecipeError(f"the module has no {group.units} {group.kind} of {group.path!r}; it has {here}")
        wrong = [unit for unit in units if not 0 <= unit < group.units]
        if wrong:
            raise RecipeError(f"{group.path!r} has {group.kind} 0 to {group.units - 1}, asked to remove {wrong[0]}")
        if len(set(units)) == group.units:
            raise RecipeError(f"all {group.units} {group.kind} of {group.path!r} would be removed; keep at least one")


def _keep(part: nn.Module, kept: list[int]) -> None:
    if isinstance(part, Attention):
        _keep_heads(part, kept)
    elif isinstance(part, FeedForward):
        chosen = torch.tensor(kept)
        part.fc1, part.fc2 = _with_rows(part.fc1, chosen), _with_columns(part.fc2, chosen)
    else:
        assert isinstance(part, nn.ModuleList)
        entries = list(part)
        del part[:]
        part.extend(entries[number] for number in kept)


def _keep_heads(attention: Attention, kept: list[int]) -> None:
    first = torch.tensor(kept)[:, None] * attention.head_width
    channels = (first + torch.arange(attention.head_width)).flatten()
    for name in ("q_proj", "k_proj", "v_proj"):
        setattr(attention, name, _with_rows(getattr(attention, name), channels))
    attention.out_proj = _with_columns(attention.out_proj, channels)
    attention.heads = len(kept)


def _with_rows(linear: nn.Linear, rows: Tensor) -> nn.Linear:
    rows = rows.to(linear.weight.device)
    return _linear(linear, linear.weight.detach()[rows], None if linear.bias is None else linear.bias.detach()[rows])


def _with_columns(linear: nn.Linear, columns: Tensor) -> nn.Linear:
    weight = linear.weight.detach()[:, columns.to(linear.weight.device)]
    return _linear(linear, weight, None if linear.bias is None else linear.bias.detach().clone())


def _linear(like: nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a layer with these values that is trained or frozen as the given one."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=like.weight.requires_grad)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=like.bias.requires_grad)
    return made.train(like.training)
