"""Every target with an operator profiler: its operators add up to about the call, and each counts once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sanderling import lookup
from sanderling.engine import OpenOptions
from sanderling.targets import OperatorProfiler

SIDE = 160
NAMES = [name for name in lookup.names("target") if isinstance(lookup.find("target", name), OperatorProfiler)]


def find(name: str) -> OperatorProfiler:
    target = lookup.find("target", name)
    assert isinstance(target, OperatorProfiler)
    if target.missing() is not None:  # type: ignore[attr-defined]
        pytest.skip(target.missing())  # type: ignore[attr-defined]
    return target


def model(nodes: Sequence[NodeProto], *more: TensorProto) -> bytes:
    weight = numpy_helper.from_array(np.random.default_rng(0).random((SIDE, SIDE), np.float32) / SIDE, "weight")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [SIDE, SIDE]) for n in ("x", "y"))
    graph = helper.make_graph(list(nodes), "graph", [x], [y], [weight, *more])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    data: bytes = made.SerializeToString()
    return data


def chain(length: int) -> list[NodeProto]:
    names = ["x", *(f"h{n}" for n in range(length - 1)), "y"]
    return [helper.make_node("MatMul", [names[n], "weight"], [names[n + 1]], name=f"product{n}") for n in range(length)]


def looped() -> bytes:
    """Return a graph that multiplies eight times inside a Loop."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "weight"], ["next"], name="inside"),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
    )
    times = numpy_helper.from_array(np.array(8, np.int64), "times")
    return model([helper.make_node("Loop", ["times", "", "x"], ["y"], name="loop", body=body)], times)


def feed() -> dict[str, np.ndarray]:
    return {"x": np.ones((SIDE, SIDE), np.float32)}


@pytest.mark.parametrize("name", NAMES)
def test_operators_add_up_to_about_the_call(name: str) -> None:
    times = find(name).profile_operators(model(chain(6)), OpenOptions(threads=1), feed(), 10)
    assert len(times.rows) >= 6
    assert [row.ms for row in times.rows] == sorted((row.ms for row in times.rows), reverse=True)
    # Between operators there is little; but another process may take the core there, and counters are microseconds.
    assert 0.1 * times.call_ms < sum(row.ms for row in times.rows) < 1.05 * times.call_ms + 0.01


def test_onnxruntime_names_nodes_as_the_graph_does() -> None:
    times = find("onnxruntime").profile_operators(model(chain(3)), OpenOptions(threads=1), feed(), 3)
    assert {(row.operator, row.node) for row in times.rows} == {("MatMul", f"product{n}") for n in range(3)}


def test_what_runs_inside_a_loop_counts_once() -> None:
    times = find("onnxruntime").profile_operators(looped(), OpenOptions(threads=1), feed(), 5)
    spent = {row.operator: row.ms for row in times.rows}
    assert {"Loop", "MatMul"} <= spent.keys()
    assert sum(spent.values()) < 1.05 * times.call_ms, "with the loop's own time including its body's it is twice that"
    assert all(ms >= 0 for ms in spent.values())


def test_the_contract_knows_two_engines_and_leaves_the_others_out() -> None:
    assert {"onnxruntime", "openvino"} <= set(NAMES)
    assert "reference" not in NAMES
