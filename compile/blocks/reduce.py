"""A token-reduction site inside a torch module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from sanderling.compile.blocks.arrays import TorchArrays
from sanderling.reduction import Reducer, Reduction, View, shrink

ARRAYS = TorchArrays()


@dataclass(frozen=True)
class ReduceAt:
    """Where a vision encoder reduces its tokens, and by which rule.

    Attributes:
        reducer: the rule.
        layer: 0 acts on the patches, before they are embedded; L acts after the L-th encoder layer.
    """

    reducer: Reducer
    layer: int

    @property
    def site(self) -> str:
        """`input` or `inner`, as the design names the places."""
        return "input" if self.layer == 0 else "inner"

    @property
    def label(self) -> str:
        """A name such as `saliency@2`."""
        return f"{self.reducer.name}@{self.layer}"


@dataclass(frozen=True)
class TokenSet:
    """Tokens on their way through an encoder.

    Attributes:
        rows: [batch, n, width]
        sizes: original tokens each row stands for, float [batch, n].
        kept: original place of each row, int64 [batch, n].
    """

    rows: Tensor
    sizes: Tensor
    kept: Tensor


def all_tokens(rows: Tensor) -> TokenSet:
    """Return the unreduced set for rows [batch, n, width]."""
    batch, n = rows.shape[0], rows.shape[1]
    kept = torch.arange(n, device=rows.device).expand(batch, -1)
    return TokenSet(rows, torch.ones_like(rows[..., 0]), kept)


def number_to_keep(keep: Tensor, most: int) -> int:
    """Return the scalar tensor as a whole number the exporter can reason about, 1 to `most`."""
    number = keep.item()  # stays symbolic while the exporter traces; int() would pin it
    torch._check(number >= 1)  # type: ignore[no-untyped-call]
    torch._check(number <= most)  # type: ignore[no-untyped-call]
    return cast(int, number)


def choose(
    reducer: Reducer,
    metric: Tensor,
    saliency: Tensor,
    keep: Tensor,
    grid: tuple[int, int],
    relevance: Tensor | None = None,
) -> Reduction:
    """Return the reducer's answer at this site.

    Args:
        reducer: the rule.
        metric: what similarity is measured on, [batch, n, width].
        saliency: how much each token matters, [batch, n].
        keep: int64 scalar, 1 to n.
        grid: rows and columns of the n tokens.
        relevance: how much each token matters to the text, [batch, n]; for reducers that need it.
    """
    view = View(metric=metric, saliency=saliency, count=keep.to(torch.float32), grid=grid, relevance=relevance)
    return reducer(ARRAYS, view, number_to_keep(keep, view.n))


def reduce_tokens(tokens: TokenSet, reduction: Reduction) -> TokenSet:
    """Return the token set with the reduction applied."""
    rows, sizes = shrink(ARRAYS, reduction, tokens.rows, tokens.sizes)
    kept = ARRAYS.rows(tokens.kept[..., None], reduction.kept)[..., 0]
    return TokenSet(rows, sizes, kept)
