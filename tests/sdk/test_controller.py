from __future__ import annotations

import numpy as np

from sanderling.controller import Controller


def feed(controller: Controller, ratios: list[float]) -> list[float]:
    seen = []
    for ratio in ratios:
        controller.observe(10.0, 10.0 * ratio)
        seen.append(controller.slowdown)
    return seen


def test_constant_load_changes_nothing() -> None:
    noise = np.random.default_rng(0).normal(1.0, 0.04, 300)
    assert set(feed(Controller(), list(noise))) == {1.0}


def test_one_hiccup_changes_nothing() -> None:
    assert feed(Controller(), [1.0, 1.0, 8.0, 1.0, 1.0, 7.0, 1.0])[-1] == 1.0


def test_a_step_is_noticed_within_three_calls() -> None:
    seen = feed(Controller(), [1.0] * 10 + [2.0] * 3)
    assert seen[9] == 1.0
    assert seen[12] == 2.0


def test_recovers_within_a_window_but_not_at_once() -> None:
    controller = Controller()
    feed(controller, [2.0] * 3)
    seen = feed(controller, [1.0] * Controller.WINDOW)
    assert seen[Controller.WINDOW // 2] == 2.0
    assert seen[-1] == 1.0


def test_never_predicts_faster_than_measured() -> None:
    assert feed(Controller(), [0.5] * 60)[-1] == 1.0


def test_alternating_load_does_not_flicker() -> None:
    seen = feed(Controller(), [1.0, 2.0] * 60)
    assert len(set(seen[10:])) == 1
