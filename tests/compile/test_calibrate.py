"""Calibration feeds are what each graph gets at the settings it will run at, as the model in torch computes it."""

from __future__ import annotations

import numpy as np
import torch
from tiny import adapted_tiny, tiny_data
from tiny_models import adapted_loop

from sanderling.compile.calibrate import Calibration
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.work import begin


def test_reduced_graphs_see_their_settings_in_turn() -> None:
    step = Reduce(reducers=("saliency",), layers=(1,), fractions=(0.5, 0.25))
    work = step.apply(begin(adapted_tiny())).work
    calibration = Calibration(work, tiny_data(3).samples)
    full, reduced = (calibration.feeds(plan) for plan in work.graphs)
    assert [set(feed) for feed in full] == [{"pixel_values"}] * 3
    assert [int(feed["tokens.image"]) for feed in reduced] == [8, 4, 8]
    np.testing.assert_array_equal(full[1]["pixel_values"], reduced[1]["pixel_values"])


def test_later_components_get_what_the_earlier_ones_write() -> None:
    work = begin(adapted_loop())
    rng = np.random.default_rng(0)
    sample = {name: rng.standard_normal((1, 8)).astype(np.float32) for name in ("state", "condition")}
    feeds = Calibration(work, [sample]).feeds(work.graphs[1])
    step = work.part("denoise").build
    assert step is not None
    state = torch.from_numpy(sample["state"])
    for _ in range(8):
        state = step(None)(state, torch.from_numpy(sample["condition"]))
    np.testing.assert_allclose(feeds[0]["next_state"], state.detach(), atol=1e-6)


def test_other_samples_have_another_digest() -> None:
    work = begin(adapted_tiny())
    digests = {Calibration(work, tiny_data(2, seed).samples).digest() for seed in (0, 0, 1)}
    assert len(digests) == 2
