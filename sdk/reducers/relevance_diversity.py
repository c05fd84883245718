"""Keep tokens that matter to the text and are unlike each other."""

from __future__ import annotations

from dataclasses import dataclass

from sanderling.arrays import Array, Arrays, before
from sanderling.reduction import Reduction, View
from sanderling.scores import cosine, nearest


@dataclass(frozen=True)
class RelevanceDiversity:
    """Keep the tokens that add most to what the more relevant ones already show.

    CDPruner (Zhang et al., NeurIPS 2025) draws the subset from a determinantal point process with kernel

        K_ij = r_i * cos(x_i, x_j) * r_j,  r = relevance to the text, scaled to 0..1 over the tokens of an input

    and takes it greedily, `keep` dependent steps that a graph with `keep` known only at run time cannot hold. A step
    adds the token with the largest variance given those taken. Here that variance is taken given one token, the one
    that leaves least of it, out of all that are more relevant:

        gain_i = min over j more relevant than i of (K_ii - K_ij^2 / K_jj) = r_i^2 * (1 - max cos(x_i, x_j)^2)

    which is an upper bound of the variance given all of them. Every gain is known at once and subsets are nested: a
    smaller budget keeps part of what a larger one keeps. Without differences in relevance it is diversity alone.
    """

    name: str = "relevance_diversity"
    merges: bool = False
    needs_text: bool = True

    def __call__(self, arrays: Arrays, view: View, keep: int) -> Reduction:
        """Return the `keep` places with the largest gain; equal ones go by place."""
        relevance = view.required_relevance()
        alike = cosine(arrays, view.metric)
        taken = nearest(arrays, alike * alike, before(arrays, relevance))
        worth = _scaled(arrays, relevance)
        return Reduction(arrays.ascending(arrays.top(worth * worth * (1.0 - taken), keep)))


def _scaled(arrays: Arrays, relevance: Array) -> Array:
    """Return relevance scaled to 0..1 in each input, [batch, n]; 1 everywhere when there is no difference."""
    largest, _ = arrays.best(relevance)
    smallest = -arrays.best(-relevance)[0]
    return (relevance - smallest[:, None] + 1e-6) / (largest - smallest + 1e-6)[:, None]


REDUCER = RelevanceDiversity()
