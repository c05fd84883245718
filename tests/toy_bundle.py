"""A bundle made by hand, without torch: three components, one lever, graphs of a few nodes. Opens in milliseconds.

`picture` [batch, 8] -> "look": the sum of its `tokens` largest values, [batch, 1]; `words` [batch, n] -> "read": their
sum, [batch, 1]; "join" adds the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from sanderling.bundle import array_bytes, write_bundle
from sanderling.codec import to_json
from sanderling.compile.strip import strip
from sanderling.ladder import Cost, Ladder, Quality, Rung
from sanderling.manifest import (
    FLOAT32,
    FULL,
    SCHEMA,
    Golden,
    GoldenCase,
    GoldenInput,
    Graph,
    Manifest,
    Measured,
    Placement,
    Provenance,
    Variant,
)
from sanderling.spec import ArrayInput, Component, Lever, ModelSpec, SiteKind, TensorSpec

PICTURE = TensorSpec("picture", "float32", ("batch", 8))
TOKENS = TensorSpec("tokens", "int64", ())
WORDS = TensorSpec("words", "float32", ("batch", "n"))
LOOKED = TensorSpec("looked", "float32", ("batch", 1))
READ = TensorSpec("read", "float32", ("batch", 1))
JOINED = TensorSpec("joined", "float32", ("batch", 1))

MODEL = ModelSpec(
    name="toy",
    inputs=(ArrayInput("picture", "float32", ("batch", 8)), ArrayInput("words", "float32", ("batch", "n"))),
    components=(
        Component("look", (PICTURE,), (LOOKED,)),
        Component("read", (WORDS,), (READ,)),
        Component("join", (LOOKED, READ), (JOINED,)),
    ),
    levers=(Lever("tokens", "tokens", 1, 8, 8),),
    outputs=("looked", "read", "joined"),
)

HERE = Placement("onnxruntime", FLOAT32, 1)
PLACEMENTS = {"look": {FULL: HERE, "top@0": HERE}, "read": {FULL: HERE}, "join": {FULL: HERE}}
"""Every graph on the one engine, with one thread."""


def write_toy(path: Path, manifest_changes: dict[str, object] | None = None, measured: Measured | None = None) -> Path:
    """Write the bundle and return its path."""
    members: dict[str, bytes | memoryview] = {}
    graphs = tuple(_graph(*made, members) for made in _models())
    picture = np.arange(8, dtype=np.float32)[None]
    members["golden/input/picture.npy"] = array_bytes(picture)
    members["golden/full/looked.npy"] = array_bytes(picture.sum(1, keepdims=True))
    golden = Golden(
        (GoldenInput("picture", None, "golden/input/picture.npy"),),
        (
            GoldenCase(
                {"tokens": 8}, {c.name: FULL for c in MODEL.components}, {"looked": "golden/full/looked.npy"}, 1e-5
            ),
        ),
    )
    manifest = Manifest(SCHEMA, MODEL, graphs, golden, Provenance("", "", "{}", {}))
    members["manifest.json"] = to_json(replace(manifest, **(manifest_changes or {})))  # type: ignore[arg-type]
    members["measured.json"] = to_json(measured or toy_measured())
    write_bundle(path, members)
    return path


def toy_measured(
    costs_ms: Sequence[tuple[int, float, float]] = ((2, 1.0, 0.7), (4, 2.0, 0.9), (8, 4.0, 1.0)),
) -> Measured:
    """Return measurements with a rung for every (tokens, median milliseconds, quality); the last is the full model."""
    rungs = tuple(_rung(*entry, full=entry is costs_ms[-1]) for entry in costs_ms)
    return Measured(
        device="x86_64",
        machine={},
        stand_in=False,
        threads=1,
        placements=PLACEMENTS,
        ladder=Ladder("accuracy", rungs),
    )


def _rung(tokens: int, p50_ms: float, quality: float, full: bool) -> Rung:
    cost = Cost(p50_ms, p50_ms * 1.1, p50_ms * 1.2, 100)
    graphs = {"look": FULL if full else "top@0", "read": FULL, "join": FULL}
    parts = {name: Cost(p50_ms / 4, p50_ms / 4, p50_ms / 4, 100) for name in graphs}
    return Rung({"tokens": tokens}, graphs, cost, parts, 50.0, Quality(quality, quality, quality, 100))


def _graph(
    component: str, name: str, levers: tuple[str, ...], model: bytes, members: dict[str, bytes | memoryview]
) -> Graph:
    stripped, weights, blobs = strip(model, at_least_bytes=8)
    member = f"graphs/{component}/{name}.onnx"
    members[member] = stripped
    members.update(blobs)
    reducer = "" if name == FULL else "top"
    kind: SiteKind | None = None if name == FULL else "input"
    return Graph(component, name, levers, reducer, kind, 0, "", (Variant("onnxruntime", FLOAT32, member, weights),))


def _models() -> list[tuple[str, str, tuple[str, ...], bytes]]:
    ones = numpy_helper.from_array(np.ones((8, 1), np.float32), "ones")
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    shape = numpy_helper.from_array(np.array([1], np.int64), "shape")
    look = [helper.make_node("MatMul", ["picture", "ones"], ["looked"])]
    top = [
        helper.make_node("Reshape", ["tokens", "shape"], ["k"]),
        helper.make_node("TopK", ["picture", "k"], ["best", "places"]),
        helper.make_node("ReduceSum", ["best", "one"], ["looked"], keepdims=1),
    ]
    read = [helper.make_node("ReduceSum", ["words", "one"], ["read"], keepdims=1)]
    join = [helper.make_node("Add", ["looked", "read"], ["joined"])]
    return [
        ("look", FULL, (), _model(look, [PICTURE], [LOOKED], [ones])),
        (
            "look",
            "top@0",
            ("tokens",),
            _model(top, [PICTURE, TensorSpec("tokens", "int64", ())], [LOOKED], [one, shape]),
        ),
        ("read", FULL, (), _model(read, [WORDS], [READ], [one])),
        ("join", FULL, (), _model(join, [LOOKED, READ], [JOINED], [])),
    ]


def _model(
    nodes: list[NodeProto], inputs: list[TensorSpec], outputs: list[TensorSpec], weights: list[TensorProto]
) -> bytes:
    graph = helper.make_graph(nodes, "toy", [_value(t) for t in inputs], [_value(t) for t in outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _value(tensor: TensorSpec) -> ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(tensor.name, kind, list(tensor.shape))
