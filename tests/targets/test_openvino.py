from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sanderling.engine import OpenOptions
from sanderling.errors import UnsupportedError
from sanderling.targets.openvino import TARGET, OpenVinoEngine


def graph(*nodes: NodeProto) -> bytes:
    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 256]) for name in "xy")
    made = helper.make_graph(list(nodes), "graph", [x], [y], [numpy_helper.from_array(weight, "weight")])
    data: bytes = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()
    return data


PRODUCT = graph(helper.make_node("MatMul", ["x", "weight"], ["y"], name="product"))


def test_it_computes_in_float32_whatever_the_processor_prefers() -> None:
    x = np.random.default_rng(1).standard_normal((64, 256)).astype(np.float32)
    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    exact = x.astype(np.float64) @ weight.astype(np.float64)
    answer = TARGET.open(PRODUCT, OpenOptions()).run({"x": x})["y"]
    # float32 stays within 2e-5 of sums of 256 products; bfloat16, the default where there are instructions for it,
    # misses by 0.1.
    assert np.abs(answer - exact).max() < 1e-4


@pytest.mark.parametrize("threads", [1, 2])
def test_it_takes_the_threads_it_is_given(threads: int) -> None:
    engine = TARGET.open(PRODUCT, OpenOptions(threads=threads))
    assert isinstance(engine, OpenVinoEngine)
    compiled = engine._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads


def test_operators_it_cannot_read_are_all_named() -> None:
    nodes = [helper.make_node("Det", ["x"], ["a"], name="first"), helper.make_node("Det", ["a"], ["b"], name="second")]
    refusals = TARGET.refusals(graph(*nodes, helper.make_node("Add", ["x", "b"], ["y"], name="fine")))
    assert [(refusal.operator, refusal.node) for refusal in refusals] == [("Det", "first"), ("Det", "second")]
    assert "No conversion rule found for operations: Det-20" in refusals[0].reason


def test_the_message_leaves_out_the_engines_source_files() -> None:
    with pytest.raises(UnsupportedError) as raised:
        TARGET.open(graph(helper.make_node("Det", ["x"], ["y"])), OpenOptions())
    assert ".cpp" not in str(raised.value)
    assert ".cpp" in str(raised.value.__cause__)
