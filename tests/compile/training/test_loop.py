"""The loop learns, repeats itself bit for bit, survives a kill, and refuses what cannot work."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_distillation import ELASTIC, LEVER, OPTIONS, Classifier, models, task_for, train_tiny
from torch import Tensor, nn

from sanderling.compile.training.elastic import Elastic
from sanderling.compile.training.initialise import initialise_student
from sanderling.compile.training.loop import Result, train
from sanderling.compile.training.options import Options
from sanderling.compile.training.task import Answer
from sanderling.errors import CheckFailedError, CheckpointError, InputError, RecipeError, UnknownNameError

TESTS = Path(__file__).parents[2]


def rows_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(row) for row in (out / "record.jsonl").read_text().splitlines()]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def assert_near(one: nn.Module, other: nn.Module) -> None:
    """Within 2e-5, the rounding of sums in another order; the key biases cancel in softmax, so Adam steps on noise."""
    for name, tensor in one.state_dict().items():
        if not name.endswith("k_proj.bias"):
            assert torch.allclose(tensor, other.state_dict()[name], atol=2e-5), name


def with_options(**changes: Any) -> Options:
    return dataclasses.replace(OPTIONS, **changes)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    """A student trained with `OPTIONS`, and its folder."""
    out = tmp_path_factory.mktemp("plain")
    return train_tiny(out), out


def test_student_comes_nearer_to_its_teacher_and_the_teacher_stays_as_it_was(tmp_path: Path) -> None:
    student, teacher = models()
    before = weights_of(teacher)
    task = task_for(student)
    train(task, student, teacher, with_options(steps=150, save_every=150), tmp_path, helpers=task.hidden)
    rows = rows_of(tmp_path)
    assert rows[-1]["loss.scores"] < 0.5 * rows[0]["loss.scores"]
    assert rows[-1]["loss.hidden"] < 0.5 * rows[0]["loss.hidden"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not student.training


def test_killed_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    """Killed by the system in the middle of an interval, with dropout, a careless task and learned projections."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "tiny_distillation", str(killed), "17"]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [row["step"] for row in rows_of(killed)] == [5, 10, 15]
    assert torch.load(killed / "checkpoint.pt", weights_only=True)["step"] == 10
    assert_same(train_tiny(killed, width=8, careless=True), train_tiny(whole, width=8, careless=True))
    for mine, theirs in zip(rows_of(killed), rows_of(whole), strict=True):
        assert {**mine, "seconds": 0} == {**theirs, "seconds": 0}
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (killed, whole)]
    for module in ("student", "average", "helpers"):
        assert all(torch.equal(states[0][module][name], tensor) for name, tensor in states[1][module].items())
    moments = [state["optimizer"]["state"] for state in states]
    assert all(torch.equal(moments[0][i][name], t) for i, held in moments[1].items() for name, t in held.items())


def test_finished_run_is_not_trained_again(plain: tuple[Classifier, Path]) -> None:
    student, out = plain
    before = (out / "checkpoint.pt").read_bytes()
    assert_same(train_tiny(out), student)
    assert (out / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 1e-3},
        {"warmup": 10},
        {"weight_decay": 0.5},
        {"betas": (0.8, 0.9)},
        {"clip_norm": 0.01},
        {"average": 0.0},
        {"average": 0.99},
        {"accumulate": 2},
        {"precision": "bfloat16"},
        {"weights": {"hidden": 0.1}},
        {"elastic": Elastic()},
        {"elastic": dataclasses.replace(ELASTIC, draws=2)},
        {"elastic": dataclasses.replace(ELASTIC, ends_every=0)},
        {"seed": 1},
        {"steps": 20},
    ],
    ids=str,
)
def test_every_option_changes_the_weights(
    plain: tuple[Classifier, Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    other = train_tiny(tmp_path, with_options(**changes))
    assert not torch.equal(other.head.weight, plain[0].head.weight)
    assert other.head.weight.isfinite().all()


def test_record_and_checkpoints_come_when_asked(tmp_path: Path) -> None:
    options = with_options(steps=13, log_every=2, save_every=4, validate_every=6)
    student = train_tiny(tmp_path, options)
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12, 13]
    assert [row["step"] for row in rows if "validation.calm" in row] == [6, 12, 13]
    row = rows[-1]
    assert row["loss"] == pytest.approx(row["loss.scores"] + row["loss.hidden"])
    assert row["learning_rate"] == options.learning_rate_at(12)
    assert row["gradient_norm"] > 0
    assert_same(student, student)


def test_progress_and_tensorboard_come_when_asked(plain: tuple[Classifier, Path], tmp_path: Path) -> None:
    student, teacher = models()
    task, shown = task_for(student), []
    options = with_options(steps=10)

    def show(what: str, done: int, total: int) -> None:
        shown.append((what.startswith("distill, loss "), done, total))

    train(task, student, teacher, options, tmp_path, helpers=task.hidden, tensorboard=True, progress=show)
    assert shown == [(True, 5, 10), (True, 10, 10)]
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    assert not (plain[1] / "tensorboard").exists()


def test_row_holds_the_means_since_the_row_before(tmp_path: Path) -> None:
    train_tiny(tmp_path / "each", with_options(log_every=1))
    train_tiny(tmp_path / "fifth", OPTIONS)
    each = [row["loss.hidden"] for row in rows_of(tmp_path / "each")]
    means = [sum(each[i : i + 5]) / 5 for i in range(0, 30, 5)]
    assert [row["loss.hidden"] for row in rows_of(tmp_path / "fifth")] == pytest.approx(means, rel=1e-5)


def test_weights_of_losses_weigh(tmp_path: Path) -> None:
    train_tiny(tmp_path, with_options(weights={"hidden": 0.25}))
    row = rows_of(tmp_path)[0]
    assert row["loss"] == pytest.approx(row["loss.scores"] + 0.25 * row["loss.hidden"])


def test_batches_count_up_and_settings_follow_the_elastic_plan(tmp_path: Path) -> None:
    student, teacher = models()
    task = task_for(student)
    train(task, student, teacher, with_options(steps=10, accumulate=2), tmp_path, helpers=task.hidden)
    assert task.numbers == [0, *range(20)]  # the first is the check before the first step
    planned = [s for step in range(10) for _ in range(2) for s in ELASTIC.settings(0, step)]
    assert task.settings == [{LEVER: 16}, *planned]


def test_accumulated_batches_equal_one_of_their_pictures(tmp_path: Path) -> None:
    """The mean gradient of two batches is the gradient of both together: same step, within float32 rounding."""

    class Doubled:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.run, self.losses, self.validate = inner.run, inner.losses, inner.validate

        def batch(self, seed: int, number: int) -> Tensor:
            return torch.cat([self.inner.batch(seed, 2 * number), self.inner.batch(seed, 2 * number + 1)])

    options = with_options(steps=5, elastic=Elastic())
    two = train_tiny(tmp_path / "two", dataclasses.replace(options, accumulate=2), pictures=4)
    one, teacher = models()
    task = task_for(one)
    train(Doubled(task), one, teacher, options, tmp_path / "one", helpers=task.hidden)
    assert_near(two, one)


def test_momentum_teacher_is_the_moving_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, _ = models(dropout=0.3)
    task = task_for(student)
    task.hidden.pairs = {"encoder.layers.0": "encoder.layers.0", "encoder.layers.1": "encoder.layers.1"}
    seen: list[Any] = []
    run = task.run

    def watched(model: nn.Module, batch: Tensor, setting: Any) -> Answer:
        seen.append((model is student, model.training, weights_of(model)))
        return run(model, batch, setting)

    monkeypatch.setattr(task, "run", watched)
    train(task, student, None, with_options(steps=3, elastic=Elastic(), average=0.2), tmp_path, helpers=task.hidden)
    taught, learned = [w for mine, _, w in seen if not mine][1:], [w for mine, _, w in seen if mine][1:]
    assert {(mine, training) for mine, training, _ in seen[2:]} == {(True, True), (False, False)}
    average = taught[0]["head.weight"]
    for step in range(2):
        decay = min(0.2, (step + 1) / (step + 10))
        average = decay * average + (1 - decay) * learned[step + 1]["head.weight"]
        assert torch.allclose(taught[step + 1]["head.weight"], average, atol=1e-6)


def test_early_stopping_returns_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.1, 0.4, 0.3, 0.2, 0.9])
    kept: list[dict[str, Tensor]] = []
    student, teacher = models()
    task = task_for(student)

    def validate(model: nn.Module) -> dict[str, float]:
        kept.append(weights_of(model))
        return {"accuracy": next(values)}

    monkeypatch.setattr(task, "validate", validate)
    options = with_options(validate_every=5, watch="accuracy", patience=2)
    result = train(task, student, teacher, options, tmp_path, helpers=task.hidden)
    assert result == Result(step=20, stopped_early=True, best=0.4, best_step=10)
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in student.state_dict().items())
    again, _ = models()
    assert train(task, again, teacher, options, tmp_path, helpers=task.hidden) == result
    assert_same(again, student)


@pytest.mark.parametrize(("better", "step"), [("higher", 30), ("lower", 20)])
def test_better_says_which_way(tmp_path: Path, better: Any, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = models()
    task = task_for(student)
    values = iter([0.5, 0.2, 0.7])
    monkeypatch.setattr(task, "validate", lambda _: {"x": next(values)})
    options = with_options(validate_every=10, watch="x", better=better)
    result = train(task, student, teacher, options, tmp_path, helpers=task.hidden)
    assert (result.best_step, result.stopped_early) == (step, False)


@pytest.mark.parametrize("resumable", [True, False])
def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, resumable: bool
) -> None:
    kept = "checkpoint.pt still holds the last good weights" if resumable else "there was no checkpoint yet"
    with pytest.raises(CheckFailedError, match=rf"loss 'scores' is not finite at step 12; .*{kept}.* than 0.003"):
        train_tiny(tmp_path, with_options(save_every=10 if resumable else 20), spoil_at=12)
    assert (tmp_path / "checkpoint.pt").exists() == resumable
    if resumable:
        held = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        assert held["step"] == 10
        assert all(tensor.isfinite().all() for tensor in held["student"].values())
    assert [row["step"] for row in rows_of(tmp_path)] == [5, 10]


def test_gradient_that_is_not_finite_is_found_although_every_loss_is(tmp_path: Path) -> None:
    student, teacher = models()
    task = task_for(student)

    class Rooted(type(task)):  # type: ignore[misc]
        def losses(self, student: Answer, teacher: Answer, batch: Tensor) -> dict[str, Tensor]:
            gap = student.outputs["scores"] * 0
            return {"root": gap.sum().sqrt()}

    with pytest.raises(CheckFailedError, match="the gradient is not finite at step 0"):
        train(Rooted(task.hidden), student, teacher, OPTIONS, tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_watched_metric_that_is_not_finite_is_refused(
    tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = models()
    task = task_for(student)
    monkeypatch.setattr(task, "validate", lambda _: {"x": value})
    with pytest.raises(CheckFailedError, match=f"metric 'x' is {value} after 5 steps"):
        train(task, student, teacher, with_options(validate_every=5, watch="x"), tmp_path, helpers=task.hidden)


def test_unknown_metric_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="metric 'clam'; did you mean 'calm'"):
        train_tiny(tmp_path, with_options(validate_every=5, watch="clam"))


def test_disagreeing_models_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    student, teacher = models(answers=4)
    task = task_for(student)
    with pytest.raises(InputError, match=r"'scores' of the student is \[4, 4\] and of the teacher \[4, 5\]"):
        train(task, student, teacher, OPTIONS, tmp_path / "out", helpers=task.hidden)
    assert not (tmp_path / "out").exists()


def test_nothing_to_train_is_refused(tmp_path: Path) -> None:
    student, teacher = models()
    with pytest.raises(RecipeError, match="no weight of the student requires gradients"):
        train(task_for(student), student.requires_grad_(False), teacher, OPTIONS, tmp_path)


def test_no_teacher_at_all_is_refused(tmp_path: Path) -> None:
    student, _ = models()
    with pytest.raises(RecipeError, match="no teacher and no moving average"):
        train(task_for(student), student, None, with_options(average=0.0), tmp_path)


def test_losses_that_change_their_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = models()
    task = task_for(student)
    losses, calls = task.losses, iter(range(100))
    monkeypatch.setattr(task, "losses", lambda s, t, b: {f"a{next(calls) // 3}": losses(s, t, b)["scores"]})
    with pytest.raises(InputError, match=r"losses are \('a1',\) and were \('a0',\)"):
        train(task, student, teacher, OPTIONS, tmp_path)


def test_other_options_are_not_resumed_with(plain: tuple[Classifier, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"learning_rate = 0.003 and this run has 0.1; resume with the same"):
        train_tiny(plain[1], with_options(learning_rate=0.1))


def test_another_model_is_not_resumed_with(plain: tuple[Classifier, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is of another model"):
        train_tiny(plain[1], width=8)


@pytest.mark.parametrize("content", [b"nonsense", b"", b"PK"])
def test_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged or no checkpoint \(\w+\); delete it to start again"):
        train_tiny(tmp_path)


def test_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="has no 'average', so it is no checkpoint of a run"):
        train_tiny(tmp_path)


def test_start_from_the_teacher_is_nearer_than_a_random_one(tmp_path: Path) -> None:
    first = []
    for copied in (False, True):
        student, teacher = models()
        if copied:
            initialise_student(teacher, student)
        task = task_for(student)
        train(task, student, teacher, with_options(steps=1), tmp_path / str(copied), helpers=task.hidden)
        first.append(rows_of(tmp_path / str(copied))[0]["loss.hidden"])
    assert first[1] < 0.5 * first[0]
