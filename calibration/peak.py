"""What this machine can do at most: the roof that a profile's figures are held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

SIDE = 512
"""Rows and columns of the matrices: three of them fit a second-level cache, and threads still pay."""

COPIED_MB = 64
"""Size of the array that is copied: larger than the caches of the machines we know."""

TRIES = 8
"""Best of so many, as what is asked for is the peak."""


@dataclass(frozen=True)
class Peak:
    """Measured with NumPy, on as many threads as its library takes: a machine's roofline (Williams et al., 2009).

    Attributes:
        matmul_gflop_per_s: float32 matrix products, 2 n^3 operations each.
        copy_gb_per_s: memory read plus memory written, 10^9 bytes.
    """

    matmul_gflop_per_s: float
    copy_gb_per_s: float


def measure_peak(side: int = SIDE, copied_mb: float = COPIED_MB) -> Peak:
    """Return the machine's best of several tries.

    Args:
        side: of the square matrices.
        copied_mb: of the array that is copied.
    """
    a = np.ones((side, side), np.float32)
    product = np.empty_like(a)
    source = np.ones(int(copied_mb * 1e6) // 4, np.float32)
    copied = np.empty_like(source)
    matmul_s = _best_s(lambda: np.matmul(a, a, out=product))
    copy_s = _best_s(lambda: np.copyto(copied, source))
    return Peak(2 * side**3 / matmul_s / 1e9, 2 * source.nbytes / copy_s / 1e9)


def _best_s(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(TRIES):
        begun = perf_counter()
        work()
        taken.append(perf_counter() - begun)
    return max(min(taken), 1e-9)  # a clock too coarse for the work must not divide by zero
