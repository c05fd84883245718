"""Options, the learning rate, the record and batches of a fixed data set."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sanderling.compile.training.loop import train
from sanderling.compile.training.options import Options
from sanderling.compile.training.record import Record
from sanderling.compile.training.samples import Shuffled
from sanderling.errors import InputError, MissingExtraError, RecipeError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0, expected 1 or more"),
        ({"accumulate": 0}, "accumulate is 0, expected 1 or more"),
        ({"log_every": 0}, "log_every is 0, expected 1 or more"),
        ({"save_every": 0}, "save_every is 0, expected 1 or more"),
        ({"warmup": -1}, "warmup is -1, expected 0 or more"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1, expected 0 or more"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, expected more than 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan, expected more than 0"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0, expected more than 0"),
        ({"average": 1.0}, "average is 1.0, expected 0 to below 1"),
        ({"save_every": 25}, "save_every is 25, expected a multiple of log_every, 10"),
        ({"validate_every": 25}, "validate_every is 25, expected a multiple of log_every, 10"),
        ({"better": "more"}, "better is 'more', expected 'higher' or 'lower'"),
        ({"better": "lower"}, "better needs a metric to watch"),
        ({"precision": "float16"}, "precision is 'float16', expected one of"),
        ({"watch": "x"}, "watch is 'x', so give validate_every"),
        ({"patience": 3}, "patience needs a metric to watch"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Options(**{"steps": 100, **changes})


def test_learning_rate_equals_torchs_schedulers() -> None:
    options = Options(steps=50, learning_rate=0.2, warmup=10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=9)
    expected = []
    for _ in range(10):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warm.step()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.002)
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    assert [options.learning_rate_at(step) for step in range(50)] == pytest.approx(expected)


def row(step: int, loss: float = 1.0) -> dict[str, float]:
    return {"step": step, "loss": loss}


def test_rows_after_the_step_resumed_from_are_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text("".join(json.dumps(row(step)) + "\n" for step in (5, 10, 15)) + '{"step": 2')
    Record(tmp_path, 10, 30, tensorboard=False, progress=None).write(row(15, 2.0))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [row(5), row(10), row(15, 2.0)]


def test_progress_is_shown(tmp_path: Path) -> None:
    shown: list[tuple[str, int, int]] = []
    record = Record(tmp_path, 0, 30, tensorboard=False, progress=lambda *step: shown.append(step))
    record.write(row(10, 0.125))
    assert shown == [("distill, loss 0.125", 10, 30)]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for resumed, steps in ((0, (5, 10, 15)), (10, (15, 20))):
        record = Record(tmp_path, resumed, 30, tensorboard=True, progress=None)
        for step in steps:
            record.write(row(step, step + resumed))
        record.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(5, 5), (10, 10), (15, 25), (20, 30)]


def test_missing_tensorboard_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"needs tensorboard: pip install 'sanderling\[train\]'"):
        Record(tmp_path, 0, 1, tensorboard=True, progress=None)


def test_missing_accelerate_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    model = torch.nn.Linear(1, 1)
    with pytest.raises(MissingExtraError, match=r"needs accelerate: pip install 'sanderling\[train\]'"):
        train(object(), model, model, Options(steps=1), tmp_path)  # type: ignore[arg-type]


def test_every_sample_comes_once_in_a_pass_and_passes_differ() -> None:
    shuffled = Shuffled(samples=10, batch=3)
    passes = [np.concatenate([shuffled.places(0, 3 * number + i) for i in range(3)]) for number in range(20)]
    assert all(len(set(order.tolist())) == 9 for order in passes)
    assert set(np.concatenate(passes).tolist()) == set(range(10))
    assert len({str(order) for order in passes}) == 20
    assert not np.array_equal(shuffled.places(0, 0), shuffled.places(1, 0))
    assert np.array_equal(Shuffled(10, 3).places(0, 4), shuffled.places(0, 4))


@pytest.mark.parametrize(
    ("samples", "batch", "error", "message"),
    [
        (0, 4, InputError, "has no samples"),
        (3, 4, InputError, "has 3 samples, too few for a batch of 4"),
        (3, 0, RecipeError, "batch is 0, expected 1 or more"),
    ],
)
def test_too_few_samples_are_refused(samples: int, batch: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Shuffled(samples, batch)
