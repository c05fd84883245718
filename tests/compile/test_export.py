"""Export: names, free axes, and refusals that name the component."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny_models import Step, looped
from torch import Tensor, nn
from torch.nn import functional

from sanderling.compile.blocks.reduce import number_to_keep
from sanderling.compile.export import OPSET, export
from sanderling.engine import OpenOptions, opener
from sanderling.errors import UnsupportedError
from sanderling.spec import Component, TensorSpec

STATE, CONDITION = (TensorSpec(name, "float32", ("batch", 8)) for name in ("state", "condition"))
STEP = Component("denoise", (STATE, CONDITION), (TensorSpec("next_state", "float32", ("batch", 8)),))
ROWS = Component(
    "pick", (TensorSpec("x", "float32", ("batch", "n", 4)),), (TensorSpec("y", "float32", ("batch", "k", 4)),)
)


class First(nn.Module):
    """The first `keep` rows."""

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        return x[:, torch.arange(number_to_keep(keep, x.shape[1]))]


class Branching(nn.Module):
    """Runs another way when its input says so."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else x * 2


class Bare(nn.Module):
    """Asks Python for something that is not there."""

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("a mistake in the model")


def run(graph: bytes, **inputs: Any) -> Any:
    return next(iter(opener("onnxruntime").open(graph, OpenOptions(threads=1)).run(inputs).values()))


@pytest.fixture(scope="module")
def step() -> bytes:
    """The step of the toy generator, exported with one tensor as the example of both inputs."""
    example = torch.zeros(2, 8)
    return export(looped()[0], STEP, (example, example), {})


def test_inputs_are_told_apart_though_their_examples_are_one_tensor(step: bytes) -> None:
    rng = np.random.default_rng(0)
    state, condition = (rng.standard_normal((2, 8)).astype(np.float32) for _ in range(2))
    with torch.inference_mode():
        wanted = looped()[0](torch.from_numpy(state), torch.from_numpy(condition))
    # Of size 1, summed in another order.
    np.testing.assert_allclose(run(step, state=state, condition=condition), wanted, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_named_axes_stay_free(step: bytes, batch: int) -> None:
    rows = np.ones((batch, 8), np.float32)
    assert run(step, state=rows, condition=rows).shape == (batch, 8)


def test_names_and_operator_set_are_ours(step: bytes) -> None:
    model = onnx.load_from_string(step)
    assert [value.name for value in model.graph.input] == ["state", "condition"]
    assert [value.name for value in model.graph.output] == ["next_state"]
    assert [(opset.domain, opset.version) for opset in model.opset_import if opset.domain == ""] == [("", OPSET)]


def test_exporting_again_gives_the_same_bytes(step: bytes) -> None:
    assert export(looped()[0], STEP, (torch.zeros(2, 8), torch.zeros(2, 8)), {}) == step


def test_levers_are_scalar_inputs_at_run_time() -> None:
    graph = export(First(), ROWS, (torch.zeros(2, 6, 4),), {"tokens": 3})
    x = np.arange(24, dtype=np.float32).reshape(1, 6, 4)
    for keep in (1, 3, 6):
        np.testing.assert_array_equal(run(graph, x=x, tokens=np.asarray(keep)), x[:, :keep])


@pytest.mark.parametrize("module", [Branching(), Bare()], ids=["control flow", "error inside"])
def test_what_cannot_be_exported_is_refused_with_the_component_and_the_cause(module: nn.Module) -> None:
    component = Component("answerer", (STATE,), (TensorSpec("y", "float32", ("batch", 8)),))
    cause = {"Branching": "data-dependent", "Bare": "a mistake in the model"}[type(module).__name__]
    with pytest.raises(UnsupportedError, match=rf"component 'answerer' cannot be exported: .*{cause}") as caught:
        export(module, component, (torch.zeros(2, 8),), {})
    assert "\n" not in str(caught.value)
    assert "keep Python control flow and shapes independent" in str(caught.value)


def test_the_exporter_s_own_words_stay_off_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger("torch.onnx").level
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(Step().eval(), STEP, (torch.zeros(2, 8), torch.zeros(2, 8)), {})
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx").level == before


class Padded(nn.Module):
    """Pads by one; the exporter has no way to write that for operator sets before 18."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (1, 1))


@pytest.mark.parametrize("opset", [17, 18, 20])
def test_it_writes_the_operator_set_that_it_is_asked_for(opset: int) -> None:
    step, _ = looped()
    example = (torch.randn(2, 8), torch.randn(2, 8))
    graph = export(step, STEP, example, {}, opset)
    assert [entry.version for entry in onnx.load_from_string(graph).opset_import] == [opset]
    answer = opener("onnxruntime").open(graph, OpenOptions(threads=1))
    feed = dict(zip(("state", "condition"), (tensor.numpy() for tensor in example), strict=True))
    with torch.no_grad():
        # Sums of 16 products in float32.
        np.testing.assert_allclose(answer.run(feed)["next_state"], step(*example).numpy(), atol=1e-6)


def test_an_operator_set_that_the_exporter_cannot_reach_is_refused_with_both_numbers() -> None:
    component = Component("pad", (STATE,), (TensorSpec("y", "float32", ("batch", 10)),))
    assert export(Padded(), component, (torch.randn(2, 8),), {}, 18)
    with pytest.raises(UnsupportedError, match="component 'pad' can be written in opset 18 and not in 17"):
        export(Padded(), component, (torch.randn(2, 8),), {}, 17)
