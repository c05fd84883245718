"""Keep the tokens that matter most."""

from __future__ import annotations

from dataclasses import dataclass

from sanderling.arrays import Arrays
from sanderling.reduction import Reduction, View


@dataclass(frozen=True)
class Saliency:
    """Keep the highest `view.saliency`, in their old order.

    At an inner site saliency is the attention a token received in the layer before, averaged over heads and
    queries (as FastV, Chen et al. 2024, section 4, ranks image tokens). At the input it is the contrast of
    the patch, so nothing has to be encoded before the choice.
    """

    name: str = "saliency"
    merges: bool = False
    needs_text: bool = False

    def __call__(self, arrays: Arrays, view: View, keep: int) -> Reduction:
        """Return the `keep` most salient places."""
        return Reduction(arrays.ascending(arrays.top(view.saliency, keep)))


REDUCER = Saliency()
