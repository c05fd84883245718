"""Arguments that several verbs share."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

from sanderling.budget import Budget
from sanderling.errors import BudgetError
from sanderling.options import add_budget, budget_of, budget_words


def parsed(*arguments: str) -> Budget | None:
    parser = ArgumentParser()
    add_budget(parser)
    return budget_of(parser.parse_args(arguments))


def test_no_argument_is_no_budget() -> None:
    assert parsed() is None


def test_every_argument_arrives() -> None:
    limits = ("--latency-ms=9", "--percentile=99", "--memory-mb=64", "--min-quality=0.5", "--energy-j=2")
    found = parsed(*limits, "--on-miss=degrade", "--cheapest")
    assert found == Budget(9.0, 99.0, 64.0, 0.5, "cheapest", 2.0, "degrade")
    assert parsed("--percentile=50") == Budget(percentile=50)


def test_a_zero_is_given_not_left_out() -> None:
    with pytest.raises(BudgetError, match="latency_ms is 0"):
        parsed("--latency-ms=0")


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(), "no limit"),
        (Budget(20), "20 ms at p90"),
        (Budget(2.5, 99, 64, 0.9), "2.5 ms at p99, at most 64 MB, quality at least 0.9"),
        (Budget(20, energy_j=0.5, on_miss="last_good"), "20 ms at p90, at most 0.5 J, when late: last_good"),
    ],
)
def test_in_words(budget: Budget, words: str) -> None:
    assert budget_words(budget) == words
