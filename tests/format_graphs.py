"""Graphs to convert: the trained scene encoder with its token lever, and graphs of one or two layers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from examples.scene_qa.architecture import adapt
from examples.scene_qa.data import draw_pair
from examples.scene_qa.model import MEAN, STD, VISION
from sanderling import lookup
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.export import export
from sanderling.compile.number_format import NumberFormat
from sanderling.engine import AnyArray, OpenOptions, opener

LEVER = "tokens.image"
ALL = VISION.tokens
COUNTS = (ALL, 40, 9)
Feed = dict[str, AnyArray]


@cache
def scene_vision() -> bytes:
    """Return the trained vision encoder, keeping `tokens.image` tokens by saliency after the first layer."""
    adapted = adapt()
    at = ReduceAt(lookup.find("reducer", "saliency"), 1)
    part = adapted.parts[0]
    return export(part.build(at), adapted.spec.component("vision"), part.example, {LEVER: ALL // 2})  # type: ignore[misc]


@cache
def picture(number: int) -> AnyArray:
    """Return a drawn scene as the encoder takes it, float32 [1, 3, 96, 96]."""
    image = draw_pair(0, number)[0].astype(np.float32)
    return ((image - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)[None]


def scene_feeds(samples: range = range(8), counts: tuple[int, ...] = COUNTS) -> list[Feed]:
    """Return every sample at every token count."""
    return [{"pixel_values": picture(n), LEVER: np.asarray(count)} for n in samples for count in counts]


def product(*nodes: NodeProto, **weights: AnyArray) -> bytes:
    """Return x [batch, 64] -> y, by default one MatMul with the weight w, or what the nodes make of the weights."""
    if not weights:
        weights = {"w": weight(64, 32)}
    made = list(nodes) or [helper.make_node("MatMul", ["x", "w"], ["y"], name="multiply")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(made, "product", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def with_opset(graph: bytes, version: int) -> bytes:
    """Return the graph as one of another version of ONNX's operators."""
    model = onnx.load_from_string(graph)
    model.opset_import[0].version = version
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def weight(rows: int, columns: int, seed: int = 0) -> AnyArray:
    """Return a float32 matrix [rows, columns] of noise."""
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32) / np.float32(np.sqrt(rows))


def row_feeds(count: int = 12, rows: int = 64, seed: int = 1) -> list[Feed]:
    """Return inputs x [3, rows] of noise."""
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((3, rows)).astype(np.float32)} for _ in range(count)]


def lopsided(loud: float = 300.0) -> bytes:
    """Return norm -> first layer -> second layer, where one channel of the norm is quiet and its weights are loud.

    In float32 the loud weights make up for the quiet channel exactly; rounded to int8, they drown the other weights.
    """
    scale, first, second = np.ones(64, np.float32), weight(64, 64, seed=2), weight(64, 32, seed=3)
    scale[5] /= np.float32(loud)
    first[5] *= np.float32(loud)
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["n"], name="norm"),
        helper.make_node("MatMul", ["n", "loud.weight"], ["m"], name="loud"),
        helper.make_node("Gelu", ["m"], ["g"], name="gelu"),
        helper.make_node("MatMul", ["g", "plain.weight"], ["p"], name="plain"),
        helper.make_node("Add", ["p", "plain.bias"], ["y"], name="add"),
    ]
    shift, bias = np.full(64, 0.1, np.float32), np.full(32, 0.2, np.float32)
    named = {"scale": scale, "shift": shift, "loud.weight": first, "plain.weight": second, "plain.bias": bias}
    return product(*nodes, **named)


def run(graph: bytes, feed: Feed, target: str = "onnxruntime") -> dict[str, AnyArray]:
    """Return the outputs of a graph, lowered for its target."""
    lowered: bytes = lookup.find("target", target).lower(graph)
    return opener(target).open(lowered, OpenOptions(threads=1)).run(feed)


def cosine(x: AnyArray, y: AnyArray) -> float:
    """Return the cosine of two arrays as vectors."""
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def operators(graph: bytes) -> list[str]:
    """Return the operators of a graph's nodes, in order."""
    return [node.op_type for node in onnx.load_from_string(graph).graph.node]


def arrays(graph: bytes) -> dict[str, AnyArray]:
    """Return the initializers of a graph."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(graph).graph.initializer}


def number_format(name: str) -> Any:
    """Return a format by its file's name."""
    found: NumberFormat = lookup.find("format", name)
    return found
