"""How much each unit matters, by its weights, by gradients on calibration data, or by taking it out.

magnitude  mean square of the unit's weights (Molchanov et al. 2017, "Pruning convolutional neural networks for resource
           efficient inference", section 2.2); needs no data
taylor     mean over samples of |dL/dgate| (Michel et al. 2019, "Are sixteen heads really better than one?", section
           4.1); the gate is 1, so the slope is the first-order change of the loss
fisher     half the mean over samples of (dL/dgate)^2, the diagonal of the empirical Fisher matrix (Theis et al. 2018,
           "Faster gaze prediction with dense networks and Fisher pruning", section 2; gates as Molchanov et al. 2019,
           "Importance estimation for neural network pruning", section 3)
ablation   mean over samples of the squared change of the output when the unit alone is masked; exact, one forward pass
           per unit and batch

Without a loss the model's own outputs are the reference. Their distance to themselves has no slope, so `taylor` and
`fisher` take the random projection r.f(x), r normal, of the outputs instead: the expected square of its slope is
|df/dgate|^2, the diagonal of the Gauss-Newton matrix of the squared distance, which is the Fisher information with
targets drawn from the model (Martens 2020, "New insights and perspectives on the natural gradient method", where the
Fisher and the generalized Gauss-Newton matrix are compared).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sanderling.compile.blocks.attention import Attention
from sanderling.compile.blocks.transformer import FeedForward
from sanderling.compile.pruning.gates import gated
from sanderling.compile.pruning.groups import Group
from sanderling.errors import InputError, RecipeError

HOW = ("magnitude", "taylor", "fisher", "ablation")
PROJECTIONS = 8
"""Random projections per batch; a mean of n squared normals is off by sqrt(2 / n) of itself, less with more samples."""

Batch: TypeAlias = tuple[Tensor, ...]
"""What the module's `forward` takes, in order; the first axis is the samples."""

Loss: TypeAlias = Callable[[tuple[Tensor, ...], int], Tensor]
"""The outputs for a batch and the batch's number -> the loss of each sample, [batch]."""

Scores: TypeAlias = Mapping[Group, Tensor]
"""Group -> importance of each unit, float64 [units], 0 or more."""


@dataclass(frozen=True)
class Evidence:
    """What importance is measured on.

    Attributes:
        batches: calibration inputs.
        loss: of the task; the model's own outputs are the reference when None.
        projections: random projections per batch where there is no loss.
        seed: of the projections.
    """

    batches: Sequence[Batch]
    loss: Loss | None = None
    projections: int = PROJECTIONS
    seed: int = 0


def score(module: nn.Module, groups: Sequence[Group], how: str, evidence: Evidence | None = None) -> Scores:
    """Return the importance of every unit of the groups.

    Args:
        module: built of the shared blocks; left as it is.
        groups: of the module, as `find_groups` gives them.
        how: one of `HOW`, as described at the top of this file.
        evidence: calibration inputs; needed by all but magnitude, which takes none.

    Raises:
        RecipeError: an unknown `how`, or evidence that is missing, superfluous or makes no sense.
        InputError: calibration inputs on which the model does not answer with finite numbers.
    """
    if how not in HOW:
        raise RecipeError(f"importance {how!r} is unknown; choose one of {', '.join(HOW)}")
    if how == "magnitude":
        if evidence is not None:
            raise RecipeError("importance magnitude looks at weights only; leave the calibration inputs out")
        return {group: _magnitude(module, group) for group in groups}
    if evidence is None or not evidence.batches:
        raise RecipeError(f"importance {how!r} needs calibration inputs; give some, or choose magnitude")
    if evidence.projections < 1:
        raise RecipeError(f"projections is {evidence.projections}, expected at least 1")
    if how == "ablation" and evidence.loss is not None:
        raise RecipeError("importance ablation compares outputs; leave the loss out, or choose taylor or fisher")
    if how == "ablation":
        return _finite(_by_ablation(module, groups, evidence))
    return _finite(_by_gradient(module, groups, evidence, squared=how == "fisher"))


def _finite(scores: Scores) -> Scores:
    for group, values in scores.items():
        if not values.isfinite().all():
            raise InputError(f"the importance of {group.kind} of {group.path!r} is not finite; check the loss")
    return scores


def _magnitude(module: nn.Module, group: Group) -> Tensor:
    part = module.get_submodule(group.path)
    if isinstance(part, Attention):
        rows = [part.q_proj.weight, part.k_proj.weight, part.v_proj.weight, part.out_proj.weight.T]
        return _mean_square([row.reshape(part.heads, -1) for row in rows])
    if isinstance(part, FeedForward):
        return _mean_square([part.fc1.weight, part.fc2.weight.T])
    weights = ([p.reshape(1, -1) for p in layer.parameters() if p.ndim > 1] for layer in part.children())
    return torch.cat([_mean_square(matrices) for matrices in weights])


def _mean_square(matrices: Sequence[Tensor]) -> Tensor:
    """Return the mean of the squares of each row of all matrices, float64 [rows]."""
    return torch.cat([matrix.detach().double().cpu() for matrix in matrices], dim=1).square().mean(1)


def _by_gradient(module: nn.Module, groups: Sequence[Group], evidence: Evidence, squared: bool) -> Scores:
    totals = {group: torch.zeros(group.units, dtype=torch.float64) for group in groups}
    generator = torch.Generator().manual_seed(evidence.seed)
    seen = 0
    for number, inputs in enumerate(evidence.batches):
        batch = inputs[0].shape[0]
        with torch.enable_grad(), gated(module, groups) as gates:
            outputs = _outputs(module, inputs, number)
            for losses in _losses(outputs, number, batch, evidence, generator):
                for group, slopes in gates.gradients(groups, losses.sum(), batch).items():
                    totals[group] += (0.5 * slopes.square() if squared else slopes.abs()).sum(0)
                seen += batch
    return {group: total / seen for group, total in totals.items()}


def _by_ablation(module: nn.Module, groups: Sequence[Group], evidence: Evidence) -> Scores:
    totals = {group: torch.zeros(group.units, dtype=torch.float64) for group in groups}
    seen = 0
    with torch.no_grad():
        for number, inputs in enumerate(evidence.batches):
            whole = _outputs(module, inputs, number)
            seen += inputs[0].shape[0]
            for group in groups:
                for unit in range(group.units):
                    masked = torch.ones(group.units)
                    masked[unit] = 0
                    with gated(module, [group], {group: masked}):
                        totals[group][unit] += _change(whole, _outputs(module, inputs, number))
    return {group: total / seen for group, total in totals.items()}


def _outputs(module: nn.Module, inputs: Batch, number: int) -> tuple[Tensor, ...]:
    """Return the floating-point outputs; places of tokens do not change by degrees."""
    returned: Any = module(*inputs)
    outputs = tuple(o for o in (returned if isinstance(returned, tuple) else (returned,)) if o.is_floating_point())
    if not outputs or not all(bool(output.isfinite().all()) for output in outputs):
        raise InputError(
            f"on calibration batch {number} the model does not answer with finite numbers; check the batch for NaN"
        )
    return outputs


def _losses(
    outputs: tuple[Tensor, ...], number: int, batch: int, evidence: Evidence, generator: torch.Generator
) -> Sequence[Tensor]:
    if evidence.loss is None:
        moved = [output for output in outputs if output.requires_grad]
        if not moved:
            raise RecipeError("no output of the module depends on a unit that can be pruned")
        return [_projection(moved, generator) for _ in range(evidence.projections)]
    losses = evidence.loss(outputs, number)
    if losses.shape != (batch,):
        raise RecipeError(f"the loss has shape {list(losses.shape)}, expected one number per sample, [{batch}]")
    return [losses]


def _projection(outputs: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Return r.f(x) for each sample, [batch]; outputs in units of their own size, so that each counts alike."""
    total = torch.zeros(outputs[0].shape[0], device=outputs[0].device)
    for output in outputs:
        r = torch.randn(output.shape, generator=generator).to(output)
        total = total + (r * output).flatten(1).sum(1) / _size(output)
    return total


def _change(whole: Sequence[Tensor], masked: Sequence[Tensor]) -> float:
    """Return the squared change summed over samples, in the same units as `_projection`."""
    pairs = zip(whole, masked, strict=True)
    return sum(float(((one - other).double() / _size(one)).square().sum()) for one, other in pairs)


def _size(output: Tensor) -> Tensor:
    """Return the root mean square over samples of an output's length; 1 for an output of zeros."""
    size = output.detach().flatten(1).square().sum(1).mean().sqrt()
    return torch.where(size > 0, size, torch.ones_like(size))
