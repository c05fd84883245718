"""The self-test in a bundle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sanderling.errors import DriftError
from sanderling.manifest import Drift
from sanderling.selftest import check, cosine, drift_data, is_inside

ROW = Drift("onnxruntime", {"vision": "merge@2"}, {"tokens.image": 8}, "scores", 1e-5, 0.99999, 1e-4)


def test_a_row_inside_its_bound_passes() -> None:
    check([ROW, dataclasses.replace(ROW, max_abs=1e-4)])


@pytest.mark.parametrize("distance", [2e-4, float("inf"), float("nan")])
def test_the_first_row_outside_is_named_with_both_numbers(distance: float) -> None:
    wrong = dataclasses.replace(ROW, max_abs=distance)
    with pytest.raises(DriftError, match=r"onnxruntime.*'scores', bound 0.0001.*vision/merge@2 at tokens.image=8"):
        check([ROW, wrong, dataclasses.replace(wrong, output="later")])


def test_data_has_neither_infinity_nor_nan() -> None:
    found = drift_data(dataclasses.replace(ROW, max_abs=float("inf"), cosine=float("nan")))
    assert (found["max_abs"], found["cosine"], found["inside"]) == (None, None, False)
    assert is_inside(ROW)
    assert drift_data(ROW)["max_abs"] == 1e-5


def test_cosine_of_other_shapes_is_0() -> None:
    assert cosine(np.ones((1, 3)), np.ones((1, 4))) == 0.0
