"""What number formats need of an ONNX graph: its layers, named nodes, and one canonical form of equal graphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sanderling.engine import AnyArray
from sanderling.errors import RecipeError
from sanderling.targets.rules.operators import nodes, parse

FLOAT_OPSET = 13
"""Oldest operator set with scales per channel, and in which the rewrites here are written."""

_QUANTIZED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul",
    "QLinearConv", "MatMulNBits",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """A matrix product or convolution with a constant float32 weight.

    Attributes:
        node: the node's name.
        operator: "MatMul", "Gemm" or "Conv".
        activation: the tensor it reads.
        output: the tensor it writes.
        weight: its weight's initializer.
        bias: the initializer that is added to its output, or "".
        transposed: whether a Gemm's weight is [out, in] rather than [in, out].
    """

    node: str
    operator: str
    activation: str
    output: str
    weight: str
    bias: str
    transposed: bool

    @property
    def names(self) -> tuple[str, ...]:
        """What patterns are matched against; exporters rename transposed weights, and biases keep their name."""
        return tuple(name for name in (self.node, self.weight, self.bias) if name)

    def matches(self, patterns: Iterable[str]) -> bool:
        """Return whether any shell pattern matches one of its names."""
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in self.names)


def layers(model: ModelProto) -> tuple[Layer, ...]:
    """Return the layers of the main graph, in its order. Products of two activations are none."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    added = _added(model.graph, set(weights))
    return tuple(
        Layer(
            node=node.name,
            operator=node.op_type,
            activation=node.input[0],
            output=node.output[0],
            weight=node.input[1],
            bias=node.input[2] if len(node.input) > 2 else added.get(node.output[0], ""),
            transposed=_flag(node, "transB"),
        )
        for node in model.graph.node
        if _is_layer(node, weights)
    )


def unmatched(found: Sequence[Layer], patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns that match no layer."""
    return tuple(pattern for pattern in patterns if not any(layer.matches([pattern]) for layer in found))


def is_quantized(model: ModelProto) -> bool:
    """Return whether any node computes or unpacks integers in place of floats."""
    return any(node.op_type in _QUANTIZED for node in nodes(model.graph))


def opset(model: ModelProto) -> int:
    """Return the version of ONNX's own operators."""
    return max((int(used.version) for used in model.opset_import if used.domain in ("", "ai.onnx")), default=0)


def prepared(graph: bytes) -> ModelProto:
    """Return a graph as quantizers need it: constants as initializers, every node with a name of its own."""
    model = parse(graph)
    inputs = [value for value in model.graph.input if value.name not in constants(model)]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    kept = []
    for node in model.graph.node:
        if _is_constant(node):
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    _name(kept)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def gemms_as_products(model: ModelProto, wanted: Sequence[Layer]) -> ModelProto:
    """Return the model with the named layers that are Gemms written as MatMul and Add, for quantizers of MatMul only.

    Args:
        model: the graph, as `prepared` returns it; left as it is.
        wanted: layers to rewrite; a MatMul keeps its Gemm's name.
    """
    changed = ModelProto()
    changed.CopyFrom(model)
    nodes_wanted = {layer.node for layer in wanted if layer.operator == "Gemm"}
    ordered: list[NodeProto] = []
    for node in model.graph.node:
        ordered += _product(changed, node) if node.name in nodes_wanted else [node]
    del changed.graph.node[:]
    changed.graph.node.extend(ordered)
    return changed


def _product(model: ModelProto, node: NodeProto) -> list[NodeProto]:
    given = {attribute.name: attribute.f for attribute in node.attribute}
    there = constants(model)
    weight = values(there[node.input[1]]) * np.float32(given.get("alpha", 1))
    weight = weight.T if _flag(node, "transB") else weight
    factor = _add(model, f"{node.input[1]}.product.{node.name}", weight)
    if len(node.input) < 3 or not node.input[2]:
        return [helper.make_node("MatMul", [node.input[0], factor], [node.output[0]], name=node.name)]
    bias, beta = node.input[2], np.float32(given.get("beta", 1))
    if beta != 1:
        if bias not in there:
            return [node]
        bias = _add(model, f"{bias}.product.{node.name}", values(there[bias]) * beta)
    inner = f"{node.output[0]}.product"
    return [
        helper.make_node("MatMul", [node.input[0], factor], [inner], name=node.name),
        helper.make_node("Add", [inner, bias], [node.output[0]], name=f"{node.name}.bias"),
    ]


def _add(model: ModelProto, name: str, array: AnyArray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return name


def constants(model: ModelProto) -> dict[str, TensorProto]:
    """Return name -> initializer."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def values(tensor: TensorProto) -> AnyArray:
    """Return a tensor's elements."""
    array: AnyArray = numpy_helper.to_array(tensor)
    return array


def canonical(model: ModelProto, like: bytes) -> bytes:
    """Return the one serialised form of a model: nodes behind what they read, nothing unused, no notes.

    Args:
        model: the graph; changed.
        like: the graph it was made from, whose name and producer it keeps.
    """
    source = parse(like)
    model.producer_name, model.producer_version = source.producer_name, source.producer_version
    model.graph.name = source.graph.name
    model.ClearField("metadata_props")
    # Types noted for tensors of the float graph no longer hold; engines infer their own.
    model.graph.ClearField("value_info")
    ordered = list(_from_outputs(model.graph))
    for node in ordered:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    used = {name for node in ordered for name in _reads(node)} | {value.name for value in model.graph.output}
    for tensor in model.graph.initializer:
        tensor.ClearField("data_location")  # all bytes are in here; libraries that wrote files leave a note
    tensors = sorted((t for t in model.graph.initializer if t.name in used), key=lambda tensor: tensor.name)
    model.graph.ClearField("node")
    model.graph.node.extend(ordered)
    model.graph.ClearField("initializer")
    model.graph.initializer.extend(tensors)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def check_converted(model: ModelProto, source: ModelProto, wanted: Sequence[Layer], name: str) -> None:
    """Refuse a conversion that left the weight of a layer in float32, under its own name or another.

    Args:
        model: what was converted.
        source: what it was made from.
        wanted: the layers of the source that were to be converted.
        name: of the format.

    Raises:
        RecipeError: names the first.
    """
    may_stay = {layer.node for layer in layers(source)} - {layer.node for layer in wanted}
    missed = [layer.node for layer in layers(model) if layer.node not in may_stay]
    if missed:
        raise RecipeError(
            f"format {name!r} leaves {len(missed)} of {len(wanted)} layers in float32, the first {missed[0]!r}; "
            "exclude them by name, or leave the format out"
        )


def _is_layer(node: NodeProto, weights: dict[str, TensorProto]) -> bool:
    if node.op_type not in ("MatMul", "Gemm", "Conv") or node.domain not in ("", "ai.onnx"):
        return False
    if node.input[1] not in weights or node.input[0] in weights:
        return False
    return node.op_type == "Conv" or (len(weights[node.input[1]].dims) == 2 and not _flag(node, "transA"))


def _flag(node: NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i != 0 for attribute in node.attribute)


def _added(graph: GraphProto, weights: set[str]) -> dict[str, str]:
    """Return tensor -> the initializer that the only kind of node to use it so, an Add, adds to it."""
    found = {}
    for node in graph.node:
        if node.op_type == "Add":
            for one, other in (node.input, reversed(node.input)):
                if other in weights:
                    found[one] = other
    return found


def _is_constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and node.attribute[0].name == "value"


def _name(found: Sequence[NodeProto]) -> None:
    taken: set[str] = set()
    for number, node in enumerate(found):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}_{node.output[0]}"
        taken.add(node.name)


def _reads(node: NodeProto) -> list[str]:
    """Return the tensors that a node or the bodies inside it read."""
    inner = [nodes(body) for attribute in node.attribute for body in (attribute.g, *attribute.graphs)]
    bodies = [attribute.g for attribute in node.attribute] + [g for a in node.attribute for g in a.graphs]
    read = [name for found in inner for one in found for name in one.input]
    return [name for name in (*node.input, *read, *(v.name for body in bodies for v in body.output)) if name]


def _from_outputs(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield every node that an output needs, each behind what it reads; an order that the graph alone decides."""
    makers = {name: node for node in graph.node for name in node.output}
    done: set[str] = set()
    waiting = [(name, False) for name in reversed([value.name for value in graph.output])]
    while waiting:
        name, ready = waiting.pop()
        node = makers.get(name)
        if node is None or node.output[0] in done:
            continue
        if ready:
            done.add(node.output[0])
            yield node
        else:
            waiting.append((name, True))
            waiting += [(read, False) for read in reversed(_reads(node))]


def infer(model: ModelProto) -> ModelProto:
    """Return the model with types noted for its tensors; quantizers pass over tensors of unknown type."""
    return onnx.shape_inference.infer_shapes(model, data_prop=True)
