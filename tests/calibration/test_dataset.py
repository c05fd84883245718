"""Data for a compile: hashed whole, and found by a reference whose errors say what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sanderling.calibration.dataset import Data, from_reference
from sanderling.errors import InputError, RecipeError


def data(**changes: Any) -> Data:
    """Data with something of every kind in it, new objects at every call."""
    samples = [{"image": np.arange(6, dtype=np.uint8), "text": "a red car"}, {"image": np.ones(3), "text": "two"}]
    expected = ["yes", 3, None, ["a", 2.5], {"b": 1, "a": (np.int64(2), True)}, b"raw"]
    return replace(Data(samples, expected), **changes)


def test_the_digest_is_the_same_for_equal_data_wherever_it_is_in_memory() -> None:
    kept = [data() for _ in range(3)]
    assert len({each.digest() for each in kept}) == 1
    shuffled = data(samples=[dict(reversed(sample.items())) for sample in data().samples])
    assert shuffled.digest() == data().digest(), "the order of names in a sample means nothing"


SAMPLES = list(data().samples)
CHANGED: dict[str, Callable[[], Data]] = {
    "a value": lambda: data(samples=[{**SAMPLES[0], "image": np.arange(1, 7, dtype=np.uint8)}, SAMPLES[1]]),
    "the last value": lambda: data(samples=[SAMPLES[0], {**SAMPLES[1], "image": np.array([1, 1, 1.0001])}]),
    "a dtype": lambda: data(samples=[{**SAMPLES[0], "image": np.arange(6, dtype=np.int8)}, SAMPLES[1]]),
    "a shape": lambda: data(samples=[{**SAMPLES[0], "image": np.arange(6, dtype=np.uint8)[None]}, SAMPLES[1]]),
    "a text": lambda: data(samples=[{**SAMPLES[0], "text": "a red cat"}, SAMPLES[1]]),
    "a name": lambda: data(samples=[{"image": SAMPLES[0]["image"], "words": "a red car"}, SAMPLES[1]]),
    "the order": lambda: data(samples=SAMPLES[::-1]),
    "one less": lambda: data(samples=SAMPLES[:1]),
    "the same twice": lambda: data(samples=[*SAMPLES, SAMPLES[1]]),
    "two as one": lambda: data(samples=[{**SAMPLES[0], **{f"{k}2": v for k, v in SAMPLES[1].items()}}]),
    "an answer": lambda: data(expected=["yes", 4, *data().expected[2:]]),
    "an answer's kind": lambda: data(expected=["yes", "3", *data().expected[2:]]),
    "inside an answer": lambda: data(expected=[*data().expected[:4], {"b": 1, "a": (2, False)}, b"raw"]),
    "no answers": lambda: data(expected=()),
    "the metric": lambda: data(metric="accuracy"),
}


def test_every_change_is_in_the_digest() -> None:
    digests = {name: make().digest() for name, make in CHANGED.items()}
    assert len({data().digest(), *digests.values()}) == len(CHANGED) + 1, digests


def test_files_count_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "b.png").write_bytes(b"one")
    first, second = (Data([{"image": tmp_path / name}]).digest() for name in ("a.png", "b.png"))
    assert first == second
    (tmp_path / "b.png").write_bytes(b"two")
    assert Data([{"image": tmp_path / "b.png"}]).digest() != first


@pytest.mark.parametrize("answer", [object(), {"nested": [object()]}, np.array([object()])])
def test_what_has_no_bytes_of_its_own_is_refused(answer: Any) -> None:
    with pytest.raises(InputError, match=r"cannot be hashed; give numbers, texts, arrays, or lists or dicts of these"):
        data(expected=[answer]).digest()


def test_data_without_samples_or_with_too_few_answers_is_refused() -> None:
    with pytest.raises(InputError, match="no samples; give at least one"):
        Data([])
    with pytest.raises(InputError, match="2 samples but 1 expected answers; give one each"):
        Data(SAMPLES, ["yes"], score=lambda outputs, expected: 1.0)


def test_a_score_without_a_name_is_refused() -> None:
    with pytest.raises(InputError, match="needs the name of what it measures, such as metric='accuracy'"):
        Data(SAMPLES, ["yes", "no"], score=lambda outputs, expected: 1.0)


# --- references ------------------------------------------------------------------------------------------------------

MODULE = """
import functools
from sanderling.calibration.dataset import Data

def whole():
    return Data([{"x": 1}])

def number():
    return 3

def broken():
    raise KeyError("the user's own")

partial = functools.partial(whole)
constant = 5
"""


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python imports from, with modules in it."""
    (tmp_path / "ref_data.py").write_text(MODULE)
    (tmp_path / "ref_broken.py").write_text("import ref_absent_library\n")
    (tmp_path / "ref_prefix.py").write_text("import ref_\n")
    (tmp_path / "ref_package").mkdir()
    (tmp_path / "ref_package" / "__init__.py").write_text("")
    (tmp_path / "ref_package" / "inner.py").write_text("import ref_package.absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("function", ["whole", "partial"])
def test_a_reference_is_called(function: str, importable: Path) -> None:
    assert from_reference(f"ref_data:{function}").samples == [{"x": 1}]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("ref_data", "data is 'ref_data', expected MODULE:FUNCTION such as mypackage.data:evaluation"),
        ("ref_data:", "expected MODULE:FUNCTION"),
        (":whole", "expected MODULE:FUNCTION"),
        (".ref_data:whole", "expected MODULE:FUNCTION"),
        ("ref_dater:whole", "data module 'ref_dater' is not found from .*; name it as Python imports it"),
        ("ref_package.other:whole", "data module 'ref_package.other' is not found"),
        ("ref_data.inner:whole", "data module 'ref_data.inner' is not found"),
        ("ref_data:hole", "data module 'ref_data' has no function 'hole'"),
        ("ref_data:constant", "data module 'ref_data' has no function 'constant'"),
        ("ref_data:number", "ref_data:number returned int, expected sanderling.calibration.dataset.Data"),
    ],
)
def test_a_reference_to_nothing_useful_is_refused(reference: str, message: str, importable: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        from_reference(reference)


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("ref_broken:whole", ModuleNotFoundError, "ref_absent_library"),
        ("ref_prefix:whole", ModuleNotFoundError, "'ref_'"),
        ("ref_package.inner:whole", ModuleNotFoundError, "ref_package.absent"),
        ("ref_data:broken", KeyError, "the user's own"),
    ],
)
def test_errors_of_the_user_s_own_code_stay_visible(
    reference: str, error: type[Exception], message: str, importable: Path
) -> None:
    with pytest.raises(error, match=message):
        from_reference(reference)
