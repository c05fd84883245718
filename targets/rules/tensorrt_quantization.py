"""What TensorRT demands of explicitly quantized graphs (NVIDIA TensorRT documentation, "Working with quantized types").

Activations: int8, zero point 0, one scale. Weights: int8, zero point 0, a scale per output channel: axis 0 of a Conv's
weight and of a Gemm's that is stored [out, in], the last axis of other products' weights. Biases stay in float. A graph
that breaks a rule is refused by the parser or computed in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sanderling.engine import AnyArray
from sanderling.targets import Refusal
from sanderling.targets.rules.operators import parse

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_WEIGHTED = ("MatMul", "Gemm", "Conv")
_BIAS = 2
"""Place of a Gemm's or Conv's bias among its inputs."""

_PAIR = ("QuantizeLinear", "DequantizeLinear")


def quantization_refusals(graph: bytes) -> tuple[Refusal, ...]:
    """Return every place where a serialised ONNX model breaks TensorRT's rules for quantized graphs."""
    model = parse(graph)
    arrays = _constants(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type in ("MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "QLinearMatMul", "QLinearConv"):
            reason = "integers are computed in the open; TensorRT reads QuantizeLinear and DequantizeLinear pairs only"
            found.append(Refusal(node.op_type, node.name, reason))
        if node.op_type in _PAIR:
            found += [Refusal(node.op_type, node.name, reason) for reason in _broken(node, arrays)]
        if node.op_type in _WEIGHTED:
            found += [Refusal(node.op_type, node.name, reason) for reason in _misplaced(node, makers, arrays)]
    return tuple(found)


def _constants(model: ModelProto) -> dict[str, AnyArray]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _broken(node: NodeProto, arrays: dict[str, AnyArray]) -> list[str]:
    """Return what is wrong with the numbers of a pair's half."""
    reasons = []
    zero = arrays.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None or zero.dtype != np.int8:
        reasons.append(f"it makes {'uint8' if zero is None else zero.dtype}, TensorRT takes int8")
    if zero is not None and np.any(zero):
        reasons.append(f"its zero point is {int(np.max(np.abs(zero)))}, TensorRT takes 0")
    scale = arrays.get(node.input[1])
    if scale is None:
        reasons.append("its scale is computed; TensorRT takes constants")
    elif node.input[0] not in arrays and scale.size > 1:
        reasons.append(f"an activation has {scale.size} scales; TensorRT takes one")
    return reasons


def _misplaced(node: NodeProto, makers: dict[str, NodeProto], arrays: dict[str, AnyArray]) -> list[str]:
    """Return what is wrong around a layer: inputs quantized one without the other, the channel axis, the bias."""
    inputs = [makers.get(name) for name in node.input]
    paired = [maker is not None and maker.op_type == "DequantizeLinear" for maker in inputs]
    reasons = []
    if any(paired[:2]) and not all(paired[:2]):
        reasons.append("only one of its inputs is quantized; TensorRT then computes it in float32")
    if len(paired) > _BIAS and paired[_BIAS]:
        reasons.append("its bias is quantized; TensorRT takes biases in float")
    weight = inputs[1]
    if weight is not None and paired[1] and weight.input[0] in arrays:
        reasons += _wrong_axis(node, weight, arrays)
    return reasons


def _wrong_axis(node: NodeProto, weight: NodeProto, arrays: dict[str, AnyArray]) -> list[str]:
    shape, scales = arrays[weight.input[0]].shape, arrays.get(weight.input[1])
    first = node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute)
    wanted = 0 if first else len(shape) - 1
    axis = next((int(a.i) for a in weight.attribute if a.name == "axis"), 1) % len(shape)
    if scales is None or (scales.size == shape[wanted] and axis == wanted):
        return []
    return [f"its weight {list(shape)} has {scales.size} scales on axis {axis}, expected one per channel on {wanted}"]
