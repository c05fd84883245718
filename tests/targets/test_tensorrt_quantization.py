"""TensorRT's rules for quantized graphs: what is written for it keeps them, and each broken rule is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from format_graphs import lopsided, number_format, product, row_feeds, scene_feeds, scene_vision, weight
from onnx import helper

from sanderling.engine import AnyArray
from sanderling.targets.rules.tensorrt_quantization import quantization_refusals


def pairs(**changes: Any) -> bytes:
    """Return x -> int8 -> product with an int8 weight, as TensorRT wants it but for the changes."""
    int8, scale = np.int8(0), np.float32(0.1)
    given: dict[str, Any] = {"zero": int8, "step": scale, "weight_axis": 1, "steps": np.full(32, scale), "bias": None}
    given |= changes
    shape = (32, 64) if given.get("transposed") else (64, 32)
    product_of = helper.make_node("MatMul", ["xd", "wd"], ["y"], name="layer")
    if given.get("transposed") or given["bias"]:
        extra = [given["bias"]] if given["bias"] else []
        transposed = int(bool(given.get("transposed")))
        product_of = helper.make_node("Gemm", ["xd", "wd", *extra], ["y"], name="layer", transB=transposed)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["xq"], name="quantize"),
        helper.make_node("DequantizeLinear", ["xq", "step", "zero"], ["xd"], name="dequantize"),
        helper.make_node("DequantizeLinear", ["w", "steps", "zeros"], ["wd"], name="weight", axis=given["weight_axis"]),
        helper.make_node("DequantizeLinear", ["b", "step"], ["bd"], name="bias"),
        product_of,
    ]
    arrays: dict[str, AnyArray] = {
        "zero": np.asarray(given["zero"]), "step": np.asarray(given["step"]), "steps": given["steps"],
        "zeros": np.zeros(given["steps"].shape, np.int8), "w": np.ones(shape, np.int8),
        "b": np.ones(32, np.int32), "float_bias": np.ones(32, np.float32),
    }  # fmt: skip
    kept = nodes if given["bias"] == "bd" else [node for node in nodes if node.name != "bias"]
    return product(*kept, **arrays)


def reasons(graph: bytes) -> list[str]:
    return [f"{refusal.node}: {refusal.reason}" for refusal in quantization_refusals(graph)]


@pytest.mark.parametrize("changes", [{}, {"transposed": True, "weight_axis": 0}, {"bias": "float_bias"}])
def test_a_graph_that_keeps_the_rules_is_taken(changes: dict[str, Any]) -> None:
    assert reasons(pairs(**changes)) == []


def test_static_int8_for_tensorrt_keeps_the_rules_and_for_processors_does_not() -> None:
    chosen = number_format("int8_static")
    assert quantization_refusals(chosen.convert(scene_vision(), scene_feeds(), "tensorrt")) == ()
    assert quantization_refusals(chosen.convert(lopsided(), row_feeds(), "onnxruntime"))


def test_static_int8_of_gemm_and_conv_keeps_the_rules() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Conv", ["r", "kernel", "kb"], ["c"]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    weights: dict[str, AnyArray] = {
        "shape": np.asarray([0, 4, 4, 4]), "kernel": weight(36, 8).reshape(8, 4, 3, 3), "kb": np.ones(8, np.float32),
        "w": np.ascontiguousarray(weight(32, 16).T), "b": np.ones(16, np.float32),
    }  # fmt: skip
    converted = number_format("int8_static").convert(product(*nodes, **weights), row_feeds(), "tensorrt")
    assert quantization_refusals(converted) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"zero": np.uint8(0)}, "quantize: it makes uint8, TensorRT takes int8"),
        ({"zero": np.int8(-3)}, "quantize: its zero point is 3, TensorRT takes 0"),
        (
            {"weight_axis": 0, "steps": np.full(64, np.float32(0.1))},
            "has 64 scales on axis 0, expected one per channel on 1",
        ),
        ({"steps": np.float32(0.1).reshape(())}, "has 1 scales on axis 1, expected one per channel on 1"),
        ({"transposed": True, "steps": np.full(64, np.float32(0.1))}, "expected one per channel on 0"),
        ({"bias": "bd"}, "layer: its bias is quantized; TensorRT takes biases in float"),
    ],
    ids=["uint8", "zero point", "rows", "per tensor", "transposed", "bias"],
)
def test_every_broken_rule_is_found(changes: dict[str, Any], said: str) -> None:
    assert any(said in reason for reason in reasons(pairs(**changes)))


def test_scales_per_channel_of_an_activation_are_found() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "steps", "zeros"], ["q"], name="quantize", axis=1),
        helper.make_node("DequantizeLinear", ["q", "steps", "zeros"], ["y"], name="dequantize", axis=1),
    ]
    graph = product(*nodes, steps=np.ones(64, np.float32), zeros=np.zeros(64, np.int8))
    assert "quantize: an activation has 64 scales; TensorRT takes one" in reasons(graph)


def test_scales_that_are_computed_are_found() -> None:
    nodes = [
        helper.make_node("Abs", ["negative"], ["step"]),
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["y"], name="dequantize"),
    ]
    graph = product(*nodes, negative=np.asarray(-1, np.float32), zero=np.asarray(0, np.int8))
    assert "quantize: its scale is computed; TensorRT takes constants" in reasons(graph)


def test_a_layer_with_one_quantized_input_is_found() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "step", "zero"], ["wd"], name="weight"),
        helper.make_node("MatMul", ["x", "wd"], ["y"], name="layer"),
    ]
    weights: dict[str, AnyArray] = {
        "w": np.ones((64, 32), np.int8),
        "step": np.ones(32, np.float32),
        "zero": np.zeros(32, np.int8),
    }
    assert "layer: only one of its inputs is quantized; TensorRT then computes it in float32" in reasons(
        product(*nodes, **weights)
    )


def test_integers_in_the_open_are_found() -> None:
    converted = number_format("int8_dynamic").convert(product(), (), "onnxruntime")
    assert any("pairs only" in reason for reason in reasons(converted))
