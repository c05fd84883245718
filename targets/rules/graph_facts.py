"""What can be known of the values in an ONNX graph without running it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sanderling.engine import AnyArray
from sanderling.targets.rules.operators import nodes

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_LONGEST_SHAPE_BYTES = 1024
"""Constants up to this size may be shapes; inferring with the larger ones left out takes a tenth of the time."""

_UNREPEATABLE = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomUniform", "If", "Loop", "Scan"})
"""Operators whose outputs are not known beforehand even when their inputs are."""


@dataclass(frozen=True)
class GraphFacts:
    """Facts about every named value, those inside branches and loop bodies too.

    Attributes:
        lengths: value -> lengths of its axes, 0 for an axis known only at run time; absent when the rank is unknown.
        formats: value -> number format, such as "float32" or "int64"; absent when unknown.
        constants: value -> its tensor.
        early: values that follow from shapes, constants and integer inputs of rank 0 or 1, so that an engine can
            compute them before it computes anything else.
    """

    lengths: dict[str, tuple[int, ...]]
    formats: dict[str, str]
    constants: dict[str, TensorProto]
    early: frozenset[str]

    def array(self, name: str) -> AnyArray | None:
        """Return a constant's elements, or None when the value is no constant."""
        from onnx import numpy_helper

        return None if name not in self.constants else numpy_helper.to_array(self.constants[name])


def facts(model: ModelProto) -> GraphFacts:
    """Return what can be known of a model's values."""
    from onnx import helper

    lengths: dict[str, tuple[int, ...]] = {}
    formats: dict[str, str] = {}
    for graph in graphs(inferred(model)):
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            if tensor.HasField("shape"):
                lengths[value.name] = tuple(axis.dim_value for axis in tensor.shape.dim)
            if tensor.elem_type:
                formats[value.name] = _format(tensor.elem_type)
        for tensor in graph.initializer:
            lengths[tensor.name], formats[tensor.name] = tuple(tensor.dims), _format(tensor.data_type)
    constants = {tensor.name: tensor for graph in graphs(model.graph) for tensor in graph.initializer}
    for node in nodes(model.graph):
        tensor = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and tensor is not None:
            constants[node.output[0]] = tensor
    return GraphFacts(lengths, formats, constants, _early(model, set(constants), lengths, formats))


def inferred(model: ModelProto) -> GraphProto:
    """Return the model's graph with inferred shapes; weights that cannot be shapes are empty in it."""
    import onnx

    light = onnx.ModelProto()
    light.CopyFrom(model)
    for weight in light.graph.initializer:
        if len(weight.raw_data) > _LONGEST_SHAPE_BYTES:
            weight.ClearField("raw_data")
    return onnx.shape_inference.infer_shapes(light, data_prop=True).graph


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every branch and loop body inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.output:
                    yield from graphs(inner)


def setting(node: NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of a node, or what it is when it is not written; texts come as str."""
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            value = helper.get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else value
    return default


def _early(
    model: ModelProto, known: set[str], lengths: dict[str, tuple[int, ...]], formats: dict[str, str]
) -> frozenset[str]:
    for value in model.graph.input:
        if formats.get(value.name) in {"int32", "int64"} and len(lengths.get(value.name, (0, 0))) <= 1:
            known.add(value.name)
    for node in nodes(model.graph):
        given = {name for name in node.input if name}
        follows = node.op_type not in _UNREPEATABLE and given <= known
        if follows or node.op_type in {"Shape", "Size"}:
            known.update(node.output)
    return frozenset(known)


def _format(data_type: int) -> str:
    """Return a number format as the rest of this SDK spells it."""
    from onnx import TensorProto

    name: str = TensorProto.DataType.Name(data_type).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
