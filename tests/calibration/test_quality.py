from __future__ import annotations

import numpy as np
import pytest

from sanderling.calibration.quality import agreement, cosine, with_interval


def test_wilson_interval_equals_published_figures() -> None:
    # 10 of 10 and 81 of 263: Newcombe (1998), table I, method 3 (score without continuity correction).
    perfect = with_interval([1.0] * 10)
    assert perfect.score == perfect.high == 1.0
    assert perfect.low == pytest.approx(0.7225, abs=5e-4)
    some = with_interval([1.0] * 81 + [0.0] * 182)
    assert some.low == pytest.approx(0.2553, abs=5e-4)
    assert some.high == pytest.approx(0.3662, abs=5e-4)


def test_interval_of_graded_scores_narrows_with_samples() -> None:
    rng = np.random.default_rng(0)
    few, many = with_interval(list(rng.uniform(0, 1, 20))), with_interval(list(rng.uniform(0, 1, 2000)))
    assert many.high - many.low < (few.high - few.low) / 3


def test_agreement_is_one_for_equal_outputs_and_ignores_places() -> None:
    full = {"embedding": np.array([[1.0, 2.0]]), "kept": np.arange(3)}
    assert agreement({"embedding": np.array([[2.0, 4.0]]), "kept": np.arange(2)}, full) == pytest.approx(1.0)
    assert agreement({"embedding": np.array([[-2.0, 1.0]]), "kept": np.arange(3)}, full) == pytest.approx(0.0)


def test_cosine_of_zeros() -> None:
    assert cosine(np.zeros(3), np.zeros(3)) == 1.0
    assert cosine(np.zeros(3), np.ones(3)) == 0.0
