"""What changed in a picture since the model last saw one, and whether that is more than the sensor's noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sanderling.engine import AnyArray
from sanderling.errors import InputError

SAMPLES = 16
"""Pixels looked at along each side of a patch, at least half of that in a large frame: a 4K frame costs no more."""

WARM_UP = 4
"""Pairs of frames that the first noise estimate takes; until then everything counts as changed."""

RISE = 1 / 1024
"""How fast the noise estimate may grow, a share of itself and grey levels a frame: a pan must not pass for noise."""

MOST_NOISE = 8.0
"""Largest mean absolute difference, in grey levels, that is believed to be noise; about a standard deviation of 7."""


@dataclass(frozen=True)
class Changes:
    """Options of change detection.

    Attributes:
        grid: rows and columns of patches that a frame is divided into.
        factor: a patch changed when its difference is more than this many times the noise floor ..
        least: .. and by more than this many grey levels besides.
        refresh: frames after which the model sees a new one even if nothing changed, so that what no patch shows
            alone, such as a slow change of light, is never older than this.
    """

    grid: tuple[int, int] = (12, 12)
    factor: float = 1.5
    least: float = 1.0
    refresh: int = 30

    def __post_init__(self) -> None:
        if min(self.grid) < 1:
            raise InputError(f"grid is {self.grid}, expected at least 1 row and 1 column")
        for name, value, floor in (("factor", self.factor, 1.0), ("least", self.least, 0.0)):
            if not (math.isfinite(value) and value >= floor):
                raise InputError(f"{name} is {value}, expected a number from {floor:g}")
        if self.refresh < 1:
            raise InputError(f"refresh is {self.refresh}, expected at least 1 frame, which re-uses nothing")


@dataclass(frozen=True, eq=False)
class Change:
    """A frame against the one that the model saw last.

    Attributes:
        patches: mean absolute difference of each patch in grey levels, float32 [rows, columns]; infinite where there
            is nothing to compare with.
        floor: the noise floor, the mean absolute difference that two frames of a still scene have.
        threshold: the difference above which a patch counts as changed.
    """

    patches: NDArray[np.float32]
    floor: float
    threshold: float
    changed: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "changed", self.patches > self.threshold)

    @property
    def share(self) -> float:
        """Share of patches that changed, 0 to 1."""
        return float(self.changed.mean())


class ChangeDetector:
    """Compares frames with a reference, patch by patch.

    The noise floor is the lower quartile over patches of the difference between one frame and the next, so that it
    takes no notice of what moves in less than three quarters of the picture. It falls at once and rises slowly. For
    Gaussian noise of standard deviation s it is 2 s / sqrt(pi).
    """

    def __init__(self, options: Changes) -> None:
        self.options = options
        self._reference: AnyArray | None = None
        self._last: AnyArray | None = None
        self._floor = math.inf
        self._pairs = 0

    def look(self, pixels: AnyArray) -> Change:
        """Return what changed since the reference; everything, while there is none or the noise is not known yet.

        Args:
            pixels: uint8 [height, width] or [height, width, channels], always of one size.

        Raises:
            InputError: another kind of array, or one with fewer pixels than the grid has patches.
        """
        sample = _sample(pixels, self.options.grid)
        if self._last is not None:
            self._learn(patch_differences(sample, self._last, self.options.grid))
        self._last = sample
        floor = min(self._floor, MOST_NOISE) if math.isfinite(self._floor) else 0.0
        threshold = self.options.factor * floor + self.options.least
        if self._reference is None or self._pairs < WARM_UP:
            return Change(np.full(self.options.grid, np.inf, dtype=np.float32), floor, threshold)
        return Change(patch_differences(sample, self._reference, self.options.grid), floor, threshold)

    def saw(self) -> None:
        """Make the frame last looked at the reference, because the model saw it."""
        self._reference = self._last

    def _learn(self, between: NDArray[np.float32]) -> None:
        self._pairs += 1
        if not between.any():
            return  # a rendered picture, or a driver that gave one buffer twice, which says nothing about noise
        quartile = float(np.quantile(between, 0.25))
        if self._pairs > WARM_UP:
            # A source that showed no noise at all while warming up has none.
            known = self._floor if math.isfinite(self._floor) else 0.0
            quartile = min(quartile, known * (1 + RISE) + RISE)
        self._floor = min(quartile, self._floor) if self._pairs <= WARM_UP else quartile


def patch_differences(a: AnyArray, b: AnyArray, grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return the mean absolute difference of each patch of two arrays.

    Args:
        a: uint8 [height, width, channels]
        b: of the same shape.
        grid: rows and columns; patches differ by a pixel where a side does not divide.

    Returns:
        float32 [rows, columns]
    """
    difference = np.maximum(a, b) - np.minimum(a, b)  # never below 0, so uint8 holds it
    rows, columns = (_edges(length, parts) for length, parts in zip(a.shape, grid, strict=False))
    sums = np.add.reduceat(difference.reshape(a.shape[0], -1), rows, axis=0, dtype=np.float32)
    sums = np.add.reduceat(sums.reshape(grid[0], *a.shape[1:]).sum(axis=-1), columns, axis=1)
    counts = np.outer(np.diff(rows, append=a.shape[0]), np.diff(columns, append=a.shape[1])) * a.shape[2]
    means: NDArray[np.float32] = (sums / counts).astype(np.float32)
    return means


def _edges(length: int, parts: int) -> NDArray[np.int64]:
    """Return where each part of an axis begins."""
    return np.arange(parts, dtype=np.int64) * length // parts


def _sample(pixels: AnyArray, grid: tuple[int, int]) -> AnyArray:
    """Return every n-th row and m-th column of a frame, [height / n, width / m, channels]."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise InputError(
            f"frames are {pixels.dtype} {list(pixels.shape)}; change detection takes uint8 [height, width] or "
            "[height, width, channels]: convert them, or leave `changes` out"
        )
    if pixels.shape[0] < grid[0] or pixels.shape[1] < grid[1]:
        raise InputError(
            f"frames are {pixels.shape[0]} x {pixels.shape[1]} pixels, fewer than the grid's {grid[0]} x {grid[1]} "
            "patches; give Changes a smaller grid"
        )
    down, across = (max(1, side // (parts * SAMPLES)) for side, parts in zip(pixels.shape, grid, strict=False))
    return np.ascontiguousarray(pixels[::down, ::across].reshape(-(-pixels.shape[0] // down), -1, _channels(pixels)))


def _channels(pixels: AnyArray) -> int:
    return 1 if pixels.ndim == 2 else int(pixels.shape[2])
