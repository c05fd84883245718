"""Lower the resolution: average the tokens of a coarser grid's cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sanderling.arrays import Array, Arrays
from sanderling.reduction import Reduction, View


@dataclass(frozen=True)
class Grid:
    """Keep `keep` evenly placed tokens and merge every other token into the nearest of them.

    The coarse grid has ceil(sqrt(keep * rows / columns)) rows; `keep` places are dealt evenly over them, so any
    number from 1 to n works, not only squares. It is what feeding a smaller picture would do.
    """

    name: str = "grid"
    merges: bool = True
    needs_text: bool = False

    def __call__(self, arrays: Arrays, view: View, keep: int) -> Reduction:
        """Return the grid's places and, for every token, the nearest of them."""
        rows, columns = view.grid
        y, x = self._places(arrays, view, keep)
        kept = arrays.as_place(y * columns + x)  # [keep]
        token_y = np.repeat(np.arange(rows, dtype=np.float32), columns)
        token_x = np.tile(np.arange(columns, dtype=np.float32), rows)
        dy = arrays.spread(token_y, view.saliency)[:, :, None] - y
        dx = arrays.spread(token_x, view.saliency)[:, :, None] - x
        _, nearest = arrays.best(-(dy * dy + dx * dx))  # [batch, n]
        spread_kept = arrays.as_place(arrays.as_float(kept)[None, :] + 0.0 * view.saliency[:, :1])
        return Reduction(spread_kept, arrays.rows(spread_kept[..., None], nearest)[..., 0])

    def _places(self, arrays: Arrays, view: View, keep: int) -> tuple[Array, Array]:
        """Return row and column of each kept place, float [keep] each, in raster order."""
        rows, columns = view.grid
        coarse_rows = -arrays.floor(-((view.count * rows / columns) ** 0.5 - 1e-4))
        # Half a step keeps the quotient away from whole numbers, where float32 could fall on either side.
        turn = (arrays.count_up(keep, view.saliency) * coarse_rows + 0.5) / view.count
        row = arrays.floor(turn)
        return arrays.floor((row + 0.5) * rows / coarse_rows), arrays.floor((turn - row) * columns)


REDUCER = Grid()
