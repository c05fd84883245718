"""The manifest: read alone, refused when too new, and held against the members."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tiny_bundle import WEIGHT_MEMBER, manifest, members

from sanderling.budget import Budget
from sanderling.bundle import Bundle, write_bundle
from sanderling.codec import to_json
from sanderling.errors import BundleError
from sanderling.manifest import SCHEMA, Graph, Variant, Weight


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole bundle, alone in its folder."""
    write_bundle(tmp_path / "model.sand", members())
    return tmp_path / "model.sand"


def test_newer_manifest_is_refused_before_its_fields_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.sand"
    write_bundle(path, {"manifest.json": json.dumps({"schema": SCHEMA + 1, "unheard": "of"}).encode()})
    with Bundle.open(path) as bundle, pytest.raises(BundleError, match=f"schema is {SCHEMA + 1} .* up to {SCHEMA}"):
        bundle.manifest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(b"{}", "schema None, expected a whole number", id="no schema"),
        pytest.param(b'{"schema": 1}', "missing fields", id="fields missing"),
        pytest.param(b"{", "is not JSON", id="not JSON"),
        pytest.param(to_json(manifest()).replace(b'"y"', b'"z"', 1), "is not legal", id="illegal model"),
        pytest.param(
            to_json(manifest(budget=Budget(latency_ms=5))).replace(b'"latency_ms": 5', b'"latency_ms": -5'),
            "latency_ms is -5",
            id="illegal budget",
        ),
    ],
)
def test_wrong_manifests_are_refused(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "x.sand"
    write_bundle(path, members(**{"manifest.json": text}))
    with Bundle.open(path) as bundle, pytest.raises(BundleError, match=message) as caught:
        bundle.manifest()
    assert "x.sand: manifest.json" in str(caught.value)


def test_manifest_is_read_without_touching_weights(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the weight is the last member
    path.write_bytes(data)
    with Bundle.open(path) as bundle:
        assert bundle.manifest() == manifest()
        with pytest.raises(BundleError, match=f"member '{WEIGHT_MEMBER}' is damaged: its sha256 is .*, expected"):
            bundle.verify()


def test_verify_looks_at_the_file_again(path: Path) -> None:
    with Bundle.open(path) as bundle:
        bundle.verify()
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x99")
        with pytest.raises(BundleError, match="is damaged"):
            bundle.verify()


def without(name: str) -> dict[str, bytes]:
    return {kept: data for kept, data in members().items() if kept != name}


def with_weight(weight: Weight) -> dict[str, bytes]:
    variant = Variant("onnxruntime", "float32", "graphs/c.onnx", (weight,))
    changed = manifest(graphs=(Graph("c", "full", (), "", None, 0, "", (variant,)),))
    return members(**{"manifest.json": to_json(changed)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(without("manifest.json"), "'manifest.json' is missing", id="no manifest"),
        pytest.param(without("graphs/c.onnx"), "names member 'graphs/c.onnx', which is missing", id="no graph"),
        pytest.param(without("golden/x.npy"), "names member 'golden/x.npy', which is missing", id="no golden input"),
        pytest.param(without(WEIGHT_MEMBER), "names member 'weights/.*', which is missing", id="no weight"),
        pytest.param(members(extra=b"x"), "'extra' belongs to nothing", id="unreferenced"),
        pytest.param(
            with_weight(Weight("w", "float32", (3, 5), WEIGHT_MEMBER)), "takes 60 bytes, .* has 48", id="weight's shape"
        ),
        pytest.param(with_weight(Weight("w", "float8", (3, 4), WEIGHT_MEMBER)), "dtype 'float8'", id="weight's dtype"),
        pytest.param(with_weight(Weight("w", "float32", (-3, -4), WEIGHT_MEMBER)), "expected lengths", id="negative"),
        pytest.param(members(**{"golden/x.npy": b"x"}), "'golden/x.npy' is not a .npy file", id="golden"),
        pytest.param(members(**{"measured.json": b"{}"}), "measured.json: unknown fields", id="measured"),
    ],
)
def test_verify_finds_what_does_not_fit(tmp_path: Path, given: dict[str, bytes], message: str) -> None:
    path = tmp_path / "x.sand"
    write_bundle(path, given)
    with Bundle.open(path) as bundle, pytest.raises(BundleError, match=message) as caught:
        bundle.verify()
    assert str(caught.value).count(str(path)) == 1
