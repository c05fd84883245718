"""Engines against the source's golden answers, through a real bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_bundle import MODEL, toy_measured, write_toy

from sanderling.bundle import Bundle, array_bytes, write_bundle
from sanderling.calibration.compare import check, compare
from sanderling.errors import DriftError
from sanderling.manifest import Golden, GoldenCase, GoldenInput, Measured

FULL = {component.name: "full" for component in MODEL.components}
TOP = {**FULL, "look": "top@0"}


def golden(looked: float, bound: float = 1e-5) -> Golden:
    """The toy's self-test at all and at 2 of its tokens, where the source is said to have answered `looked`."""
    return Golden(
        (GoldenInput("picture", None, "golden/input/picture.npy"),),
        (
            GoldenCase({"tokens": 8}, FULL, {"looked": "golden/full/looked.npy"}, bound),
            GoldenCase({"tokens": 2}, TOP, {"looked": f"golden/top/{looked:g}.npy"}, bound),
        ),
    )


def opened(path: Path, looked: float, bound: float = 1e-5) -> Bundle:
    """Write the toy with that golden answer and open it."""
    write_toy(path / "toy.sand", {"golden": golden(looked, bound)})
    with Bundle.open(path / "toy.sand") as bundle:
        members = {name: bundle.read(name) for name in bundle.names()}
        answer = array_bytes(np.full((1, 1), looked, np.float32))
        write_bundle(path / "whole.sand", {**members, f"golden/top/{looked:g}.npy": answer})
    return Bundle.open(path / "whole.sand")


@pytest.fixture
def measured() -> Measured:
    return toy_measured()


def test_every_target_case_and_output_has_a_row(tmp_path: Path, measured: Measured) -> None:
    told: list[tuple[str, int, int]] = []
    with opened(tmp_path, 13.0) as bundle:  # the largest two of 0 to 7 are 6 and 7
        rows = compare(bundle, measured, ("onnxruntime",), lambda *step: told.append(step))
    assert [(row.target, row.graphs["look"], row.settings["tokens"]) for row in rows] == [
        ("onnxruntime", "full", 8),
        ("onnxruntime", "top@0", 2),
    ]
    assert all(row.max_abs == 0 and row.cosine == pytest.approx(1) for row in rows)
    assert told == [("comparing onnxruntime", 1, 2), ("comparing onnxruntime", 2, 2)]
    check(rows)


def test_the_first_output_past_its_bound_is_named_with_both_numbers(tmp_path: Path, measured: Measured) -> None:
    with opened(tmp_path, 13.5, bound=0.25) as bundle:
        rows = compare(bundle, measured, ("onnxruntime",), lambda *_: None)
    assert [row.max_abs for row in rows] == [0.0, 0.5]
    with pytest.raises(DriftError, match=r"by 0\.5 in 'looked', bound 0\.25 .*look/top@0.* at tokens=2"):
        check(rows)


def test_a_difference_of_exactly_the_bound_is_inside(tmp_path: Path, measured: Measured) -> None:
    with opened(tmp_path, 13.5, bound=0.5) as bundle:
        check(compare(bundle, measured, ("onnxruntime",), lambda *_: None))
