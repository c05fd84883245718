"""The pass that offers number formats: each option turns something, and wrong ones are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tiny import adapted_tiny

from sanderling.compile.passes.quantize import Quantize
from sanderling.compile.work import Work, begin
from sanderling.errors import UnknownNameError


@pytest.fixture
def work() -> Work:
    return begin(adapted_tiny())


def offered(step: Quantize, work: Work) -> dict[str, list[Any]]:
    assert step.requires(work) is None
    result = step.apply(work).work
    assert step.ensures(result) is None
    return {component: list(formats) for component, formats in result.formats.items()}


def test_formats_and_components_are_those_asked_for(work: Work) -> None:
    assert [f.name for f in offered(Quantize(), work)["vision"]] == ["int8_dynamic", "int8_static"]
    named = Quantize(formats=("float16",), components=("vision",))
    assert [f.name for f in offered(named, work)["vision"]] == ["float16"]


def test_exclude_and_smooth_reach_the_formats_that_have_them(work: Work) -> None:
    formats = offered(Quantize(exclude=("*head*",), smooth=0.5), work)["vision"]
    assert {(f.exclude, f.smooth) for f in formats} == {(("*head*",), 0.5)}
    assert {(f.exclude, f.smooth) for f in offered(Quantize(), work)["vision"]} == {((), 0.0)}


def test_a_pattern_may_be_about_one_component(work: Work) -> None:
    def patterns(*exclude: str) -> tuple[str, ...]:
        found: tuple[str, ...] = offered(Quantize(exclude=exclude), work)["vision"][0].exclude
        return found

    assert patterns("vision:*fc2*", "node:0", "*head*") == ("*fc2*", "node:0", "*head*")
    step = Quantize(exclude=("text:*fc2*",), components=("a", "b"))
    assert list(step._patterns("a", ["a", "text"])) == []
    assert list(step._patterns("text", ["a", "text"])) == ["*fc2*"]


def test_samples_are_passed_on(work: Work) -> None:
    assert Quantize(samples=9).apply(work).work.calibration_samples == 9


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"components": ("audio",)}, "no component is called 'audio'; this model has vision"),
        ({"formats": ()}, "at least one"),
        ({"formats": ("int8_static", "int8_static")}, "'int8_static' is listed twice"),
        ({"formats": ("float32",)}, "always a candidate"),
        ({"samples": 0}, "samples is 0"),
        ({"formats": ("float16",), "smooth": 0.5}, "none of float16 has the option smooth"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options: dict[str, Any], reason: str, work: Work) -> None:
    refusal = replace(Quantize(), **options).requires(work)
    assert refusal is not None
    assert reason in refusal


def test_an_unknown_format_names_the_nearest(work: Work) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'int8_static'"):
        Quantize(formats=("int8_statik",)).apply(work)
