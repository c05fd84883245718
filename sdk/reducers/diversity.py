"""Keep tokens that are unlike each other."""

from __future__ import annotations

from dataclasses import dataclass

from sanderling.arrays import Arrays, before
from sanderling.reduction import Reduction, View
from sanderling.scores import cosine, nearest


@dataclass(frozen=True)
class Diversity:
    """Keep the tokens that are farthest from every more salient one.

    The aim is that of DivPrune (Alvar et al., CVPR 2025): a subset whose smallest distance between two
    tokens is large, distance being 1 - cosine of the metric. DivPrune adds the farthest token `keep` times over, a
    loop that a graph with `keep` known only at run time cannot hold. This is the rule in one step that density peaks
    use (Rodriguez and Laio, Science 2014, equation 2), with saliency in the place of density:

        delta_i = min over j more salient than i of (1 - cos(x_i, x_j)),  keep the largest delta

    The most salient token has no j and stays first. What it promises: any two kept tokens are at least as far apart as
    the smallest delta among them, because one of the two is the more salient one. What it does not: a token counts as
    near to a more salient one that is itself left out, so the subset is not DivPrune's, and its smallest distance is
    somewhat shorter. Subsets are nested: a smaller budget keeps part of what a larger one keeps.
    """

    name: str = "diversity"
    merges: bool = False
    needs_text: bool = False

    def __call__(self, arrays: Arrays, view: View, keep: int) -> Reduction:
        """Return the `keep` places with the largest delta; equal ones, such as copies, go by place."""
        alike = nearest(arrays, cosine(arrays, view.metric), before(arrays, view.saliency))
        return Reduction(arrays.ascending(arrays.top(1.0 - alike, keep)))


REDUCER = Diversity()
