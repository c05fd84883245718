from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sanderling.engine import OpenOptions
from sanderling.errors import UnsupportedError
from sanderling.targets.onnxruntime import TARGET

TASKS = Path("/proc/self/task")


def graph(*nodes: NodeProto, width: int = 256) -> bytes:
    weight = np.random.default_rng(0).standard_normal((width, width)).astype(np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, width]) for name in "xy")
    made = helper.make_graph(list(nodes), "graph", [x], [y], [numpy_helper.from_array(weight, "weight")])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    data: bytes = helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()
    return data


PRODUCT = graph(helper.make_node("MatMul", ["x", "weight"], ["y"], name="product"))
FEED = {"x": np.ones((64, 256), dtype=np.float32)}


@pytest.mark.skipif(not TASKS.exists(), reason="threads are counted the Linux way")
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_it_starts_the_threads_it_is_given(threads: int) -> None:
    before = len(list(TASKS.iterdir()))
    engine = TARGET.open(PRODUCT, OpenOptions(threads=threads))
    engine.run(FEED)
    assert len(list(TASKS.iterdir())) - before == threads - 1  # the caller's own thread works too


def test_it_uses_no_processor_time_between_calls() -> None:
    engine = TARGET.open(PRODUCT, OpenOptions(threads=2))
    idle = 0.0
    for _ in range(10):
        engine.run(FEED)
        start = time.process_time()
        time.sleep(0.005)
        idle += time.process_time() - start
    # 0.5 ms here; threads that spin while they wait use about 40 ms of these 50.
    assert idle < 0.015


def test_an_operator_it_knows_and_cannot_run_is_named_with_its_node() -> None:
    decode = helper.make_node("ImageDecoder", ["file"], ["picture"], name="decode")
    file = helper.make_tensor_value_info("file", TensorProto.UINT8, ["size"])
    picture = helper.make_tensor_value_info("picture", TensorProto.UINT8, ["height", "width", 3])
    made = helper.make_graph([decode], "graph", [file], [picture])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    (refusal,) = TARGET.refusals(model.SerializeToString())
    assert (refusal.operator, refusal.node) == ("ImageDecoder", "decode")
    assert "Could not find an implementation for ImageDecoder" in refusal.reason


def test_its_own_operators_are_known_by_name() -> None:
    own = graph(helper.make_node("QuickGelu", ["x"], ["y"], name="gelu", domain="com.microsoft"))
    assert TARGET.refusals(own) == ()
    made_up = graph(helper.make_node("SlowGelu", ["x"], ["y"], name="gelu", domain="com.microsoft"))
    assert [(refusal.operator, refusal.node) for refusal in TARGET.refusals(made_up)] == [("SlowGelu", "gelu")]


def test_shapes_that_do_not_fit_are_blamed_on_their_node() -> None:
    wrong = graph(helper.make_node("MatMul", ["weight", "x"], ["y"], name="turned"))
    assert [(refusal.operator, refusal.node) for refusal in TARGET.refusals(wrong)] == [("MatMul", "turned")]


@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this build has only the CPU",
)
def test_what_a_processor_cannot_do_does_not_move_to_the_cpu() -> None:
    with pytest.raises(UnsupportedError, match=re.escape("fallback to CPU EP has been explicitly disabled")):
        TARGET.open(PRODUCT, OpenOptions(processor="Azure"))
