"""Keep the beginning and the end of a sequence."""

from __future__ import annotations

from dataclasses import dataclass

from sanderling.arrays import Arrays
from sanderling.errors import RecipeError
from sanderling.reduction import Reduction, View


@dataclass(frozen=True)
class HeadTail:
    """Keep the first ceil(head * keep) tokens and the last keep - ceil(head * keep).

    How long texts are cut for BERT with the least loss (Sun et al., How to Fine-Tune BERT for Text Classification,
    2019: the first 128 and the last 382 of 510 tokens). It reads no token, so it costs nothing; a
    picture's tokens are taken row by row. Padding counts as tokens: leave it off before.

    Attributes:
        head: share of `keep` taken from the beginning, 0 to 1.
    """

    head: float = 0.25
    name: str = "head_tail"
    merges: bool = False
    needs_text: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.head <= 1:
            raise RecipeError(f"head_tail has head={self.head}, expected a share of the kept tokens, 0 to 1")

    def __call__(self, arrays: Arrays, view: View, keep: int) -> Reduction:
        """Return the first and last places."""
        # A little less, so that 0.3 of 10 is 3 in float32 too.
        head = -arrays.floor(-(view.count * self.head - 1e-4))
        place = arrays.count_up(keep, view.saliency)
        kept = arrays.where(place < head, place, place + (float(view.n) - view.count))
        return Reduction(arrays.as_place(kept[None, :] + 0.0 * view.saliency[:, :1]))


REDUCER = HeadTail()
