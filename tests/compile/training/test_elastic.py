"""Settings are drawn as asked, the same everywhere, with both ends now and then."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from sanderling.compile.training.elastic import Choice, Elastic, Uniform
from sanderling.errors import RecipeError

TWO = Elastic({"tokens.image": Uniform(16, 144), "frames": Choice((1, 2, 8))}, draws=2, ends_every=4)
LARGEST, SMALLEST = {"tokens.image": 144, "frames": 8}, {"tokens.image": 16, "frames": 1}


def test_both_ends_come_with_every_so_manieth_step_and_random_ones_always() -> None:
    for step in range(12):
        settings = TWO.settings(7, step)
        assert len(settings) == (4 if step % 4 == 0 else 2)
        assert (settings[:2] == (LARGEST, SMALLEST)) == (step % 4 == 0)
        assert all(16 <= s["tokens.image"] <= 144 and s["frames"] in (1, 2, 8) for s in settings)


def test_ends_at_every_step_are_the_sandwich_rule_and_never_is_possible() -> None:
    assert all(Elastic(TWO.levers, 1, 1).settings(0, step)[:2] == (LARGEST, SMALLEST) for step in range(5))
    assert all(len(Elastic(TWO.levers, 1, 0).settings(0, step)) == 1 for step in range(5))
    assert Elastic(TWO.levers, 0, 1).settings(0, 3) == (LARGEST, SMALLEST)


def test_settings_follow_from_seed_and_step() -> None:
    assert TWO.settings(7, 5) == TWO.settings(7, 5)
    assert len({str(TWO.settings(seed, step)) for seed in range(4) for step in (1, 2, 3)}) > 10


def test_no_levers_train_the_full_model() -> None:
    assert Elastic().settings(0, 0) == ({},)


@pytest.mark.parametrize(
    ("draw", "chances"),
    [
        (Uniform(1, 4), {1: 0.25, 2: 0.25, 3: 0.25, 4: 0.25}),
        (Uniform(1, 3, log=True), {1: 0.5, 2: np.log(1.5) / np.log(4), 3: np.log(4 / 3) / np.log(4)}),
        (Uniform(5, 5), {5: 1.0}),
        (Choice((2, 9)), {2: 0.5, 9: 0.5}),
        (Choice((2, 9), (3, 1)), {2: 0.75, 9: 0.25}),
        (Choice((2, 9), (0, 1)), {9: 1.0}),
    ],
    ids=str,
)
def test_draws_are_distributed_as_asked(draw: Any, chances: dict[int, float]) -> None:
    rng = np.random.default_rng(0)
    counts = Counter(draw(rng) for _ in range(4000))
    assert set(counts) == set(chances)
    for value, chance in chances.items():
        assert counts[value] / 4000 == pytest.approx(chance, abs=0.03)  # three standard deviations


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(0, 3), "settings from 0 to 3"),
        (lambda: Uniform(4, 3), "settings from 4 to 3"),
        (lambda: Choice(()), r"settings \(\)"),
        (lambda: Choice((0, 1)), r"settings \(0, 1\)"),
        (lambda: Choice((1, 2), (1,)), "for 2 settings: give one each"),
        (lambda: Choice((1, 2), (1, -1)), "for 2 settings: give one each"),
        (lambda: Choice((1, 2), (0, 0)), "for 2 settings: give one each"),
        (lambda: Elastic(draws=-1), "draws -1"),
        (lambda: Elastic(ends_every=-1), "ends_every -1"),
        (lambda: Elastic(draws=0), "some steps would train nothing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()
