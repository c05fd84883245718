"""JSON and back: what `to_json` wrote comes back, and everything else is refused by its path."""

from __future__ import annotations

import dataclasses

import pytest
from tiny_bundle import manifest, measured

from sanderling.budget import Budget
from sanderling.codec import from_json, to_json
from sanderling.errors import BundleError
from sanderling.manifest import Graph, Manifest, Measured
from sanderling.spec import ArrayInput, Component, ImageInput, Lever, Loop, ModelSpec, Site, TensorSpec, TextInput


def rich() -> Manifest:
    """A manifest with every kind of input, a loop, a site and a budget in whole milliseconds."""
    image = ImageInput("image", "pixels", 8, 8, "shortest", 9, "bicubic", 1 / 255, (0.5,), (0.5,))
    text = TextInput("text", "ids", "mask", "tokenizer.json", 7, 0, "longest")
    array = ArrayInput("noise", "float32", ("batch", 4))
    pixels, after = (TensorSpec(name, "float32", ("batch", 3)) for name in ("pixels", "after"))
    component = Component("c", (pixels,), (after,), Loop("steps", (("after", "pixels"),)))
    site = Site("c", "steps", "inner", 2, "kept")
    model = ModelSpec("rich", (image, text, array), (component,), (Lever("steps", "steps", 1, 4, 4),), (site,))
    graph = Graph("c", "saliency@2", ("steps",), "saliency", "inner", 2, "kept", ())
    return dataclasses.replace(manifest(), model=model, graphs=(graph,), budget=Budget(latency_ms=20, memory_mb=1.5))


@pytest.mark.parametrize("value", [manifest(), rich(), measured()], ids=["tiny", "rich", "measured"])
def test_what_was_written_comes_back(value: Manifest | Measured) -> None:
    assert from_json(type(value), to_json(value), "it") == value


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"latency_ms": 20', '"latency_ms": NaN', "it.budget.latency_ms is nan, expected a finite number"),
        ('"latency_ms": 20', '"latency_ms": 1e999', "it.budget.latency_ms is inf, expected a finite number"),
        ('"latency_ms": 20', f'"latency_ms": {10**400}', "it.budget.latency_ms is 1000.*, expected a finite number"),
        ('"latency_ms": 20', '"latency_ms": true', "it.budget.latency_ms is bool True, expected float"),
        ('"latency_ms": 20', '"latency_ms": "20"', "it.budget.latency_ms is str '20', expected float"),
        ('"layer": 2,', '"layer": 2.0,', "layer is float 2.0, expected int"),
        ('"layer": 2,', '"layer": 2, "layer": 2,', "it is not JSON: key 'layer' comes twice"),
        ('"kind": "inner"', '"kind": "outer"', "kind is 'outer', expected one of"),
        ('"kind": "image"', '"kind": "video"', r"it.model.inputs\[0\] is .* fits none of"),
        ('"kind": "image"', '"kind": ["image"]', r"it.model.inputs\[0\] is .* fits none of"),
        ('"kind": "image"', '"kind": "text"', r"it.model.inputs\[0\]: unknown fields"),
        ('"batch",', "null,", "is None, which fits none of"),
        ('"schema": 3', '"schema": 3, "extra": 0', r"it: unknown fields \['extra'\]"),
        ('"schema": 3', '"scheme": 1', r"unknown fields \['scheme'\], missing fields \['schema'\]"),
    ],
)
def test_other_text_is_refused_by_its_path(old: str, new: str, message: str) -> None:
    text = to_json(rich()).decode()
    assert old in text
    with pytest.raises(BundleError, match=message):
        from_json(Manifest, text.replace(old, new).encode(), "it")
