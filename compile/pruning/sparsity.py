"""2:4 sparsity: in every four weights of a row two are zero, which some engines multiply at up to twice the speed.

The two of largest magnitude stay (Mishra et al. 2021, "Accelerating sparse deep neural networks", sections 3 and 4).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sanderling.compile.architecture import Build
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.errors import RecipeError

GROUP, STAY = 4, 2


def two_of_four(weight: Tensor) -> Tensor:
    """Return a weight with the two smallest of every four neighbours in a row at zero; of equal ones the first stay.

    Args:
        weight: [rows, columns], columns a multiple of 4.

    Raises:
        RecipeError: the columns do not divide into fours.
    """
    _check(weight)
    fours = weight.unflatten(-1, (-1, GROUP))  # type: ignore[no-untyped-call]
    order = torch.argsort(fours.abs(), dim=-1, descending=True, stable=True)
    stay = torch.zeros_like(fours, dtype=torch.bool).scatter(-1, order[..., :STAY], True)
    sparse: Tensor = (fours * stay).flatten(-2)
    return sparse


def is_two_of_four(weight: Tensor) -> bool:
    """Return whether every four neighbours in a row have at most two that are not zero.

    Raises:
        RecipeError: the columns do not divide into fours.
    """
    _check(weight)
    fours = weight.unflatten(-1, (-1, GROUP))  # type: ignore[no-untyped-call]
    return bool(((fours != 0).sum(-1) <= STAY).all())


def sparse_layers(module: nn.Module) -> tuple[str, ...]:
    """Return the paths of the linear layers that can be made 2:4: those whose inputs divide into fours."""
    return tuple(
        path for path, part in module.named_modules() if type(part) is nn.Linear and part.in_features % GROUP == 0
    )


def sparsify(module: nn.Module) -> nn.Module:
    """Return a copy with every linear layer that can be 2:4 so; it owns its weights and can be trained on."""
    made = copy.deepcopy(module)
    with torch.no_grad():
        for path in sparse_layers(made):
            weight = made.get_parameter(f"{path}.weight")
            weight.copy_(two_of_four(weight))
    return made


@dataclass(frozen=True)
class SparseBuild:
    """Builds a part with its linear layers 2:4 sparse.

    Attributes:
        original: builds the part dense.
    """

    original: Build

    def __call__(self, reduce_at: ReduceAt | None) -> nn.Module:
        """Return the sparse module; the dense one is left as it is."""
        return sparsify(self.original(reduce_at))


def _check(weight: Tensor) -> None:
    if weight.ndim != 2 or weight.shape[1] % GROUP:
        raise RecipeError(
            f"a weight {list(weight.shape)} cannot be 2:4; expected rows of a multiple of {GROUP} columns"
        )
