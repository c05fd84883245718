"""The machine's peak: figures that are numbers, and that the sizes asked for were used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sanderling.calibration import peak
from sanderling.calibration.peak import measure_peak


def test_figures_are_positive() -> None:
    found = measure_peak(side=64, copied_mb=1)
    assert found.matmul_gflop_per_s > 0
    assert found.copy_gb_per_s > 0


def test_figures_are_the_work_over_the_best_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_a_second(work: Any) -> float:
        work()
        return 0.5

    monkeypatch.setattr(peak, "_best_s", half_a_second)
    found = measure_peak(side=100, copied_mb=2)
    assert found.matmul_gflop_per_s == pytest.approx(2 * 100**3 / 0.5 / 1e9)
    assert found.copy_gb_per_s == pytest.approx(2 * 2e6 / 0.5 / 1e9)
    assert np.isfinite(found.copy_gb_per_s)
