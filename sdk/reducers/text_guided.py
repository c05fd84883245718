"""Filter by what is seen, recover what the text asks for, cluster the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sanderling.arrays import Array, Arrays, among, rank
from sanderling.errors import RecipeError
from sanderling.reduction import Reduction, View
from sanderling.scores import cosine, nearest


@dataclass(frozen=True)
class TextGuided:
    """Keep salient tokens, then relevant ones among the others, and merge what is left into clusters.

    Recoverable Compression (Chen et al., AAAI 2025), as its authors describe the algorithm, for a given `keep`:

        V  the floor(visual * keep) most salient tokens                                 visual filter
        T  the floor(text * keep) tokens not in V that are most relevant to the text    text recovery
        C  keep - |V| - |T| centres among the rest; every other token of the rest is
           merged into the centre it is most like                                       secondary recovery

    All stand in their old order, a cluster at the place of its centre. Centres are the tokens of the rest that are
    farthest from every more salient one of the rest (density peaks, Rodriguez and Laio, Science 2014, equation 2), and
    a cluster is the mean of its members, where the authors' code adds overlapping neighbourhoods up. Their algorithm
    finds the number of tokens from the content; `sanderling.outliers.count_outliers` does that, and gives a `keep`.

    Attributes:
        visual: share of `keep` that the visual filter takes, 0 or more.
        text: share of `keep` that text recovery takes, 0 or more; both together are less than 1, so that the rest
            always has a cluster to go to.
    """

    visual: float = 0.5
    text: float = 0.25
    name: str = "text_guided"
    merges: bool = True
    needs_text: bool = True

    def __post_init__(self) -> None:
        if not (self.visual >= 0 and self.text >= 0 and self.visual + self.text < 1):
            raise RecipeError(
                f"text_guided has shares visual={self.visual} and text={self.text}, expected both 0 or more and "
                "less than 1 together; what is left of the tokens goes to clusters"
            )

    def __call__(self, arrays: Arrays, view: View, keep: int) -> Reduction:
        """Return the kept places and, for every token, the place it is merged into."""
        relevance = view.required_relevance()
        salience = rank(arrays, view.saliency)
        seen = salience < _part(arrays, view, self.visual)
        asked = rank(arrays, arrays.where(seen, _LAST, relevance)) < _part(arrays, view, self.text)
        single = seen | asked
        alike = cosine(arrays, view.metric)
        # The rest comes first in this order, so that no token of it is measured against V or T.
        order = arrays.where(single, salience + view.n, salience)
        ahead = order[:, None, :] < order[:, :, None]
        kept = arrays.ascending(arrays.top(arrays.where(single, 4.0, 1.0 - nearest(arrays, alike, ahead)), keep))
        stays = among(arrays, kept, view.saliency)
        centre = stays & ~single
        _, partner = arrays.best(arrays.where(centre[:, None, :], alike, -2.0))
        place = arrays.spread(np.arange(view.n, dtype=np.float32), view.saliency)
        target = arrays.where(stays, place, arrays.as_float(partner))
        return Reduction(kept, arrays.as_place(target))


_LAST = -3e38
"""Below every relevance."""


def _part(arrays: Arrays, view: View, share: float) -> Array:
    """Return floor(share * keep) as a float array of no dimensions."""
    # A little more, so that 0.3 of 10 is 3 in float32 too.
    return arrays.floor(view.count * share + 1e-4)


REDUCER = TextGuided()
