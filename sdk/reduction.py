"""What a reducer sees, what it answers, and how its answer is applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sanderling.arrays import Array, Arrays
from sanderling.errors import RecipeError


@dataclass(frozen=True)
class View:
    """The tokens at a site, as a reducer sees them.

    Attributes:
        metric: what similarity is measured on (attention keys, or pixels at the input), [batch, n, width].
        saliency: how much each token matters (attention received, or contrast at the input), [batch, n].
        count: how many tokens to keep, as a float array of no dimensions.
        grid: rows and columns the tokens were laid out in before any reduction; rows * columns == n. A sequence is
            one row.
        relevance: how much each token matters to the text, float [batch, n]; None where the site does not know it.
    """

    metric: Array
    saliency: Array
    count: Array
    grid: tuple[int, int]
    relevance: Array | None = None

    @property
    def n(self) -> int:
        """Tokens at the site."""
        return self.grid[0] * self.grid[1]

    def required_relevance(self) -> Array:
        """Return the relevance, for reducers that say `needs_text`.

        Raises:
            RecipeError: the site has none.
        """
        if self.relevance is None:
            raise RecipeError(
                "a reducer that chooses by relevance to the text was given none; pass the relevance of every token to "
                "the site, or use a reducer that does not need the text"
            )
        return self.relevance


@dataclass(frozen=True)
class Reduction:
    """A reducer's answer.

    Attributes:
        kept: places that stay, ascending, int [batch, keep].
        target: for each token the kept place it is merged into, int [batch, n]; None when the others are dropped.
    """

    kept: Array
    target: Array | None = None


class Reducer(Protocol):
    """A rule that chooses which tokens stay or merge.

    The contract: order is kept, exactly `keep` tokens come out, `keep == n` is the identity, and of tokens that score
    the same the earlier ones stay.
    """

    @property
    def name(self) -> str:
        """The file name it is found by."""
        ...

    @property
    def merges(self) -> bool:
        """Whether dropped tokens live on in others. If not, every size stays 1 and attention needs no correction."""
        ...

    @property
    def needs_text(self) -> bool:
        """Whether it chooses by `view.relevance`; sites that do not know it are refused by the `reduce` pass."""
        ...

    def __call__(self, arrays: Arrays, view: View, keep: int) -> Reduction:
        """Return which `keep` of the `view.n` tokens stay."""
        ...


def shrink(arrays: Arrays, reduction: Reduction, rows: Array, sizes: Array) -> tuple[Array, Array]:
    """Return the rows and sizes that are left.

    Merged rows are the mean of their members weighted by size (Bolya et al., Token Merging, section 3).

    Args:
        arrays: the array library's verbs.
        reduction: which rows stay.
        rows: [batch, n, width]
        sizes: tokens each row stands for, [batch, n]

    Returns:
        rows [batch, keep, width] and sizes [batch, keep]
    """
    if reduction.target is None:
        return arrays.rows(rows, reduction.kept), arrays.rows(sizes[..., None], reduction.kept)[..., 0]
    members = arrays.as_float(reduction.kept[:, :, None] == reduction.target[:, None, :])  # [batch, keep, n]
    weights = members * sizes[:, None, :]
    merged_sizes = weights.sum(-1)
    return (weights @ rows) / merged_sizes[..., None], merged_sizes
