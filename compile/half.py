"""Layers in a 16-bit float, everything between them in float32.

Softmax, normalisation and residual sums keep their precision: each layer reads its activation and weight in 16 bits and
its result is cast back. An engine that computes 16-bit floats merges the casts into its kernels. On processors nothing
is gained, so they are refused: ONNX Runtime casts float16 back to float32 and has no product in bfloat16, and our
OpenVINO target asks for float32 whatever the graph says (its bfloat16 is an option of the engine, not of the graph).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sanderling.compile.number_format import FLOAT_OPSET, Feeds, demand, refusal
from sanderling.compile.onnx_graph import Layer, canonical, constants, layers, prepared, values
from sanderling.engine import AnyArray
from sanderling.errors import RecipeError


@dataclass(frozen=True)
class _Kind:
    """A 16-bit float: ONNX's number for it, its NumPy dtype, and the largest number."""

    onnx_type: int
    dtype: Any
    largest: float

    def rounded(self, array: AnyArray) -> AnyArray:
        """Return an array in this format, or refuse it."""
        peak = float(np.abs(array).max(initial=0))
        if peak > self.largest:
            raise RecipeError(
                f"a weight is {peak:.3g}, beyond the largest number {self.largest:.3g} of {np.dtype(self.dtype)}; "
                "exclude that layer, or use bfloat16"
            )
        halved: AnyArray = array.astype(self.dtype)
        return halved


_KINDS: Mapping[str, _Kind] = {
    "float16": _Kind(TensorProto.FLOAT16, np.float16, 65504.0),
    "bfloat16": _Kind(TensorProto.BFLOAT16, ml_dtypes.bfloat16, 3.3895e38),
}

_BACK = {
    "onnxruntime": "on a processor ONNX Runtime casts float16 back to float32 and has no products in bfloat16",
    "openvino": "on a processor the target openvino computes in float32 whatever the graph says",
}


@dataclass(frozen=True)
class Half:
    """Options of a 16-bit format.

    Attributes:
        name: "float16" or "bfloat16".
        exclude: shell patterns of node, weight or bias names; these layers stay in float32.
    """

    name: str
    exclude: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("tensorrt",)
    lossy: bool = True
    needs_calibration: bool = False

    def refuses(self, graph: bytes, target: str) -> str | None:
        """Return why 16-bit layers gain nothing or cannot be had, or None."""
        return _BACK.get(target) or refusal(self, graph, target, self.exclude, FLOAT_OPSET)

    def convert(self, graph: bytes, feeds: Feeds, target: str) -> bytes:
        """Return the graph with every layer that is not excluded in 16 bits.

        Raises:
            RecipeError: `refuses` has a reason, or a weight is beyond the format's range.
        """
        demand(self, graph, target)
        model = prepared(graph)
        wanted = {layer.node: layer for layer in layers(model) if not layer.matches(self.exclude)}
        ordered: list[NodeProto] = []
        cast: dict[str, str] = {}
        for node in model.graph.node:
            if node.name in wanted:
                ordered += _halved(model, node, wanted[node.name], _KINDS[self.name], cast)
            else:
                ordered.append(node)
        del model.graph.node[:]
        model.graph.node.extend(ordered)
        return canonical(model, graph)


def _halved(model: ModelProto, node: NodeProto, layer: Layer, kind: _Kind, cast: dict[str, str]) -> Sequence[NodeProto]:
    """Return the nodes that compute a layer in 16 bits; activations that several layers read are cast once."""
    made = []
    if layer.activation not in cast:
        cast[layer.activation] = f"{layer.activation}.half"
        made.append(_cast(layer.activation, cast[layer.activation], kind.onnx_type))
    node.input[0] = cast[layer.activation]
    there = constants(model)
    for place in range(1, len(node.input)):
        half = f"{node.input[place]}.half"
        if half not in there:
            array = kind.rounded(values(there[node.input[place]]))
            model.graph.initializer.append(numpy_helper.from_array(array, half))
        node.input[place] = half
    node.output[0] = f"{layer.output}.half"
    return [*made, node, _cast(node.output[0], layer.output, TensorProto.FLOAT)]


def _cast(source: str, result: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}.cast", to=kind)
