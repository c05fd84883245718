"""Weights go back into a graph so that three readers nobody here wrote take it: onnx, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import hashlib
import mmap
import subprocess
import sys

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from sanderling.engine import AnyArray
from sanderling.errors import BundleError, UnsupportedError
from sanderling.manifest import Weight
from sanderling.weights import ELEMENTS, byte_size, restore

SHAPES = [(), (1,), (200,), (3, 130), (0, 4), (2, 1, 3, 2)]


def array_of(dtype: str, shape: tuple[int, ...]) -> AnyArray:
    """Small whole numbers, which every dtype holds exactly."""
    values = np.random.default_rng(len(shape)).integers(0, 2, shape)
    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def weight_of(name: str, array: AnyArray) -> tuple[Weight, bytes]:
    raw = array.tobytes()
    return Weight(name, array.dtype.name, array.shape, f"weights/{hashlib.sha256(raw).hexdigest()}"), raw


def adding(arrays: dict[str, AnyArray]) -> onnx.ModelProto:
    """A model that returns x plus the sum of every weight, in float32."""
    nodes, last = [], "x"
    for name in arrays:
        nodes += [
            helper.make_node("Cast", [name], [f"{name}.float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", [f"{name}.float"], [f"{name}.sum"], keepdims=0),
            helper.make_node("Add", [last, f"{name}.sum"], [f"{name}.total"]),
        ]
        last = f"{name}.total"
    graph = helper.make_graph(
        [*nodes, helper.make_node("Identity", [last], ["y"])],
        "adding",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def emptied(model: onnx.ModelProto) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.initializer[:]
    return bytes(copy.SerializeToString())


def put_back(arrays: dict[str, AnyArray]) -> tuple[onnx.ModelProto, bytes]:
    """The whole model, and the same with its weights left out and restored."""
    model = adding(arrays)
    given = [weight_of(name, array) for name, array in arrays.items()]
    members = {weight.member: memoryview(raw) for weight, raw in given}
    return model, restore(emptied(model), [weight for weight, _ in given], members.__getitem__)


@pytest.mark.parametrize("dtype", ELEMENTS)
def test_restored_model_is_the_one_that_was_emptied(dtype: str) -> None:
    model, restored = put_back({f"w{shape}": array_of(dtype, shape) for shape in SHAPES})
    assert onnx.load_from_string(restored) == model


@pytest.mark.parametrize("dtype", ELEMENTS)
def test_engines_compute_with_restored_weights(dtype: str) -> None:
    """Sums of whole numbers below 2**24 are exact in float32, so the answers must be equal, not close."""
    arrays = {"a": array_of(dtype, (3, 130)), "b": array_of(dtype, (200,)), "c": array_of(dtype, ())}
    _, restored = put_back(arrays)
    x = np.array([0.0, 5.0], np.float32)
    expected = x + sum(float(array.astype(np.float32).sum()) for array in arrays.values())
    session = onnxruntime.InferenceSession(restored, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(restored), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_array_equal(compiled({"x": x})["y"], expected)


def test_a_thousand_random_weights_come_back() -> None:
    rng = np.random.default_rng(3)
    arrays = {
        f"layer.{i}": rng.standard_normal(rng.integers(1, 20, rng.integers(0, 4))).astype(np.float32)
        for i in range(1000)
    }
    model, restored = put_back(arrays)
    assert onnx.load_from_string(restored) == model


def test_nothing_left_out_returns_the_same_bytes() -> None:
    graph = emptied(adding({}))
    assert restore(memoryview(graph), [], lambda member: memoryview(b"")) == graph


def test_weights_that_stayed_in_the_graph_are_kept() -> None:
    model = adding({"a": np.array([1, 2], np.float32), "b": np.array([3], np.float32)})
    weight, raw = weight_of("b", np.array([3], np.float32))
    del model.graph.initializer[1]
    whole = onnx.load_from_string(restore(model.SerializeToString(), [weight], lambda _: memoryview(raw)))
    assert {t.name: numpy_helper.to_array(t).tolist() for t in whole.graph.initializer} == {"a": [1, 2], "b": [3]}


@pytest.mark.parametrize("dtype", ELEMENTS)
def test_element_table_agrees_with_onnx_and_numpy(dtype: str) -> None:
    array = array_of(dtype, (1,))
    assert ELEMENTS[dtype].onnx_type == helper.np_dtype_to_tensor_dtype(array.dtype)
    assert ELEMENTS[dtype].itemsize == array.dtype.itemsize


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        pytest.param(
            Weight("w", "float32", (3, 4), "m"), r"weight 'w' .* takes 48 bytes, .* 'm' has 40", id="too short"
        ),
        pytest.param(Weight("w", "float16", (3, 4), "m"), "takes 24 bytes, .* has 40", id="too long"),
        pytest.param(Weight("w", "float32", (), "m"), "takes 4 bytes, .* has 40", id="scalar"),
        pytest.param(Weight("w", "float32", (-2, -5), "m"), r"shape \(-2, -5\), expected lengths", id="negative"),
        pytest.param(Weight("w", "float32", (0, 2**63), "m"), "expected lengths", id="longer than int64"),
        pytest.param(Weight("w", "float32", (10**30,), "m"), "expected lengths", id="huge"),
        pytest.param(Weight("w", "int4", (80,), "m"), "dtype 'int4', expected one of", id="unknown dtype"),
        pytest.param(Weight("\ud800", "float32", (10,), "m"), "name that is not text", id="half a character"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weight: Weight, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        restore(b"", [weight], lambda _: memoryview(bytes(40)))


def test_more_than_protobuf_reads_is_refused_before_it_is_copied() -> None:
    weight = Weight("w", "int8", (3 * 2**29,), "m")
    reserved = mmap.mmap(-1, 3 * 2**29)  # address space, never touched
    with pytest.raises(UnsupportedError, match=r"takes 3,221,225,\d+ bytes, .* at most 2,147,483,647: quantize it"):
        restore(b"", [weight, weight], lambda _: memoryview(reserved))


def test_byte_size_counts_elements() -> None:
    assert byte_size(Weight("w", "bfloat16", (3, 5), "m")) == 30
    assert byte_size(Weight("w", "int64", (), "m")) == 8


def test_reading_a_bundle_loads_neither_onnx_nor_an_engine() -> None:
    code = (
        "import sys, sanderling.bundle, sanderling.weights;"
        "print({'onnx', 'torch', 'google.protobuf', 'onnxruntime', 'openvino'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
