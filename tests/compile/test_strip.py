"""Weights come out of a graph once, and restored graphs compute what the originals did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from sanderling.compile.strip import strip
from sanderling.engine import AnyArray
from sanderling.errors import CheckpointError
from sanderling.manifest import Weight
from sanderling.weights import ELEMENTS, restore

RNG = np.random.default_rng(0)
LARGE = RNG.standard_normal((20, 20)).astype(np.float32)
SMALL = RNG.standard_normal(20).astype(np.float32)


def model_of(nodes: list[onnx.NodeProto], initializers: list[TensorProto]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 20])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 20])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test")


def two_layers() -> onnx.ModelProto:
    """x @ first + bias, @ second, where first and second are equal."""
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("Add", ["a", "bias"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["y"]),
    ]
    named = {"first": LARGE, "bias": SMALL, "second": LARGE}
    return model_of(nodes, [numpy_helper.from_array(array, name) for name, array in named.items()])


def with_branch() -> onnx.ModelProto:
    """A weight of the graph, used only inside the branches of an If."""
    out = [helper.make_tensor_value_info("r", TensorProto.FLOAT, ["batch", 20])]
    then = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["r"])], "then", [], out)
    other = helper.make_graph([helper.make_node("Sub", ["x", "x"], ["r"])], "other", [], out)
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Less", ["zero", "total"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=then, else_branch=other),
    ]
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    return model_of(nodes, [numpy_helper.from_array(LARGE, "w"), zero])


def whole(stripped: tuple[bytes, tuple[Weight, ...], dict[str, bytes]]) -> bytes:
    graph, weights, data = stripped
    return restore(graph, weights, lambda member: memoryview(data[member]))


def onnxruntime_answer(model: bytes, x: AnyArray) -> AnyArray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def openvino_answer(model: bytes, x: AnyArray) -> AnyArray:
    core = openvino.Core()
    return np.asarray(
        core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"x": x})["y"]
    )


@pytest.mark.parametrize("answer", [onnxruntime_answer, openvino_answer])
@pytest.mark.parametrize("make", [two_layers, with_branch])
def test_stripped_and_restored_computes_the_same(
    make: Callable[[], onnx.ModelProto], answer: Callable[[bytes, AnyArray], AnyArray]
) -> None:
    """Equal, not close: both engines build the same kernels from the same graph."""
    x = RNG.random((3, 20), dtype=np.float32)
    before = answer(make().SerializeToString(), x)
    np.testing.assert_array_equal(answer(whole(strip(make())), x), before)
    if make is two_layers:  # float32 sums of 20 products, twice: far below 1e-4
        np.testing.assert_allclose(before, (x @ LARGE + SMALL) @ LARGE, atol=1e-4)


def test_large_weights_leave_and_equal_ones_are_kept_once() -> None:
    graph, weights, data = strip(two_layers())
    member = f"weights/{hashlib.sha256(LARGE.tobytes()).hexdigest()}"
    assert weights == (Weight("first", "float32", (20, 20), member), Weight("second", "float32", (20, 20), member))
    assert data == {member: LARGE.tobytes()}
    assert [tensor.name for tensor in onnx.load_from_string(graph).graph.initializer] == ["bias"]
    assert len(graph) < 1000


@pytest.mark.parametrize(("at_least", "left"), [(0, 0), (80, 0), (81, 1), (1600, 1), (1601, 3)])
def test_threshold_decides_what_stays(at_least: int, left: int) -> None:
    graph, weights, _ = strip(two_layers(), at_least)
    assert len(onnx.load_from_string(graph).graph.initializer) == left
    assert len(weights) == 3 - left


def test_bytes_and_model_give_equal_results_and_the_model_is_left_alone() -> None:
    model = two_layers()
    model.doc_string = "kept in the caller's own"
    before = model.SerializeToString()
    assert strip(model) == strip(before) == strip(before)
    assert model.SerializeToString() == before


def test_what_depends_on_the_machine_is_removed_everywhere() -> None:
    plain, marked = with_branch(), with_branch()
    branch = marked.graph.node[2].attribute[0]
    places = [
        marked,
        marked.graph,
        marked.graph.node[0],
        marked.graph.initializer[0],
        marked.graph.input[0],
        branch.g,
        branch.g.node[0],
        branch.g.output[0],
    ]
    for place in places:
        place.doc_string = "File /home/someone/model.py, line 3"
        place.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/someone/model.py")
    branch.doc_string = "/home/someone"
    assert strip(marked) == strip(plain)
    assert b"someone" in marked.SerializeToString()
    assert onnx.load_from_string(strip(marked)[0]).producer_name == "test"


@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("raw", [True, False], ids=["raw_data", "typed data"])
def test_every_dtype_leaves_as_raw_little_endian_bytes(dtype: str, raw: bool) -> None:
    array = RNG.integers(0, 2, (30, 40)).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = helper.make_tensor("w", kind, array.shape, array.tobytes() if raw else array.flatten(), raw=raw)
    assert tensor.HasField("raw_data") is raw
    _, (weight,), data = strip(model_of([], [tensor]))
    assert (weight.name, weight.dtype, weight.shape) == ("w", dtype, (30, 40))
    assert data == {weight.member: array.tobytes()}


def test_dtypes_that_numpy_has_no_name_for_stay_in_the_graph() -> None:
    tensors = [
        TensorProto(name="text", data_type=TensorProto.STRING, dims=[500], string_data=[b"word"] * 500),
        numpy_helper.from_array(np.zeros(4000, ml_dtypes.int4), "four bits"),
        numpy_helper.from_array(np.zeros(4000, ml_dtypes.float8_e4m3fn), "float8"),
    ]
    graph, weights, data = strip(model_of([], tensors))
    assert (weights, data) == ((), {})
    assert list(onnx.load_from_string(graph).graph.initializer) == tensors


def elsewhere(tensor: TensorProto) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def external() -> onnx.ModelProto:
    model = two_layers()
    elsewhere(model.graph.initializer[1])
    return model


def external_constant() -> onnx.ModelProto:
    constant = numpy_helper.from_array(SMALL, "hidden")
    elsewhere(constant)
    return model_of([helper.make_node("Constant", [], ["y"], value=constant)], [])


def cut_short() -> onnx.ModelProto:
    model = two_layers()
    model.graph.initializer[0].raw_data = LARGE.tobytes()[:-4]
    return model


def too_few_floats() -> onnx.ModelProto:
    model = two_layers()
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].float_data.extend([1.0, 2.0])
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(external, "bytes of weight 'bias' are in another file; load the model with onnx", id="external"),
        pytest.param(external_constant, "bytes of weight 'hidden' are in another file", id="external constant"),
        pytest.param(
            cut_short, r"'first' is float32 \[20, 20\], which takes 1,600 bytes, and has 1,596", id="cut short"
        ),
        pytest.param(too_few_floats, "weight 'first' cannot be read", id="too few floats"),
        pytest.param(lambda: b"\x07not a model", "these 12 bytes are no ONNX model", id="not a model"),
        pytest.param(lambda: two_layers().SerializeToString()[:-5], "are no ONNX model", id="model cut short"),
    ],
)
def test_models_that_cannot_be_stripped_are_refused(make: Callable[[], onnx.ModelProto | bytes], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        strip(make())
