"""Merge similar tokens (bipartite soft matching)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sanderling.arrays import Array, Arrays, among
from sanderling.reduction import Reduction, View
from sanderling.scores import cosine


@dataclass(frozen=True)
class Merge:
    """Merge the tokens that are most like another one (Bolya et al., Token Merging, section 3).

    Tokens are split into sources and targets; each source finds its most similar target by the cosine of the
    metric, and the n - keep most similar sources are merged into theirs. The paper alternates sources and
    targets, which allows keep >= n / 2. For a smaller `keep` the targets thin out evenly to `keep` of them,
    and every source is merged.
    """

    name: str = "merge"
    merges: bool = True
    needs_text: bool = False

    def __call__(self, arrays: Arrays, view: View, keep: int) -> Reduction:
        """Return the kept places and, for every token, the place it is merged into."""
        is_target = self._targets(arrays, view)  # [batch, n]
        likeness, partner = arrays.best(arrays.where(is_target[:, None, :], cosine(arrays, view.metric), -2.0))
        worth = arrays.where(is_target, 4.0, -likeness)
        kept = arrays.ascending(arrays.top(worth, keep))
        place = arrays.spread(np.arange(view.n, dtype=np.float32), view.saliency)
        target = arrays.where(among(arrays, kept, view.saliency), place, arrays.as_float(partner))
        return Reduction(kept, arrays.as_place(target))

    def _targets(self, arrays: Arrays, view: View) -> Array:
        """Return which tokens others may merge into: min(keep, n / 2) of them, evenly spread, bool [batch, n]."""
        half = float(view.n // 2)
        targets = arrays.where(view.count < half, view.count, half)
        place = arrays.spread(np.arange(view.n, dtype=np.float32), view.saliency)
        # Half a step keeps the quotient away from whole numbers, where float32 could fall on either side.
        before = arrays.floor((place * targets + 0.5) / view.n)
        after = arrays.floor(((place + 1.0) * targets + 0.5) / view.n)
        return after > before


REDUCER = Merge()
