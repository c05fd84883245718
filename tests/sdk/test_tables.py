"""Tables and figures for people."""

from __future__ import annotations

import pytest

from sanderling.ladder import Ladder, Quality
from sanderling.tables import figure, graphs_words, ladder_table, quality_words, settings_words, table


def test_numbers_go_to_the_right_and_words_to_the_left() -> None:
    found = table(("name", "ms"), [("a", "1.5"), ("longer", "12.25")], indent=0)
    assert found == "name       ms\na         1.5\nlonger  12.25"


def test_a_column_with_a_word_in_it_is_not_of_numbers() -> None:
    assert table(("ms",), [("1",), ("none at all",)], indent=0) == "ms\n1\nnone at all"


def test_a_missing_number_keeps_the_column_to_the_right() -> None:
    assert table(("MB",), [("-",), ("",), ("120",)], indent=0) == " MB\n  -\n\n120"


def test_rows_of_another_length_are_our_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        table(("a", "b"), [("1",)])


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.01234, "0.012"), (3.456, "3.46"), (45.67, "45.7"), (1234.5, "1234"), (-2.5, "-2.50"), (None, "-")],
)
def test_figures_have_about_three_digits(value: float | None, written: str) -> None:
    assert figure(value) == written


def test_words() -> None:
    assert settings_words({}) == "no levers"
    assert settings_words({"tokens.image": 4, "steps": 2}) == "tokens.image=4, steps=2"
    assert graphs_words({"vision": "merge@2", "text": "full"}) == "vision/merge@2"
    assert graphs_words({"vision": "full"}) == "full"
    assert quality_words(Quality(0.5, 0.25, 0.75, 9)) == "0.500 (0.250 to 0.750)"


def test_a_ladder_without_rungs_is_a_head() -> None:
    assert ladder_table(Ladder("accuracy", ())).split() == [
        "graph",
        "p50",
        "ms",
        "p90",
        "ms",
        "p99",
        "ms",
        "memory",
        "MB",
        "quality",
        "95",
        "%",
        "interval",
    ]
