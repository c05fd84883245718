"""Calibration inputs of every component, recorded by running the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from dual_encoders import build
from tiny import SIDE, VISION, adapted_tiny, tiny_data
from tiny_models import STEPS, adapted_loop, adapted_onnx, rows_data

from examples.scene_qa.architecture import adapt
from examples.scene_qa.data import evaluation
from sanderling.calibration.dataset import Data
from sanderling.compile.samples import with_samples
from sanderling.compile.work import begin
from sanderling.errors import InputError
from sanderling.inputs import prepare_image


def test_components_get_what_the_ones_before_answered() -> None:
    work = begin(adapt())
    data = evaluation(count=3)
    found = with_samples(work, data, 2).samples
    assert {name: len(batches) for name, batches in found.items()} == {"vision": 2, "text": 2, "fusion": 2}
    modules = {name: build(work.adapted, name) for name in found}
    for number in range(2):
        (pixels,), (ids,), (words, same_ids, patches, sizes) = (found[n][number] for n in ("vision", "text", "fusion"))
        assert np.array_equal(pixels.numpy(), prepare_image(work.adapted.spec.inputs[0], data.samples[number]["image"]))  # type: ignore[arg-type]
        with torch.inference_mode():
            torch.testing.assert_close(words, modules["text"](ids), atol=1e-5, rtol=0)
            torch.testing.assert_close(patches, modules["vision"](pixels)[0], atol=1e-5, rtol=0)
        assert torch.equal(same_ids, ids)
        assert torch.equal(sizes, torch.ones_like(sizes))


def test_the_count_turns_how_many_are_recorded_and_nothing_else_changes() -> None:
    work = begin(adapted_tiny())
    found = [with_samples(work, tiny_data(), count) for count in (1, 3)]
    assert [len(one.samples["vision"]) for one in found] == [1, 3]
    assert found[0].samples["vision"][0][0].shape == (1, 3, SIDE, SIDE)
    assert replace(found[0], samples={}) == work
    assert VISION.channels == 3


def test_a_loop_is_recorded_at_its_first_call() -> None:
    rng = np.random.default_rng(0)
    rows = {name: rng.standard_normal((1, 8)).astype(np.float32) for name in ("state", "condition")}
    adapted = adapted_loop()
    found = with_samples(begin(adapted), Data([rows]), 1).samples
    assert torch.equal(found["denoise"][0][0], torch.tensor(rows["state"]))
    state, condition = (torch.tensor(rows[name]) for name in ("state", "condition"))
    with torch.inference_mode():
        for _ in range(STEPS):
            state = build(adapted, "denoise")(state, condition)
    torch.testing.assert_close(found["decode"][0][0], state, atol=1e-6, rtol=0)


def test_ready_graphs_are_recorded_too() -> None:
    data = rows_data()
    found = with_samples(begin(adapted_onnx()), data, 3).samples["classify"]
    assert all(np.array_equal(batch[0].numpy(), sample["x"]) for batch, sample in zip(found, data.samples, strict=True))


@pytest.mark.parametrize("count", [0, -1, 7])
def test_counts_that_the_data_does_not_have_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} calibration samples asked for, expected 1 to 6"):
        with_samples(begin(adapted_tiny()), tiny_data(), count)
