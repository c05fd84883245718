"""A whole bundle of 2.5 kB, and its parts."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from sanderling.bundle import Bundle, array_bytes
from sanderling.codec import to_json
from sanderling.errors import BundleError
from sanderling.ladder import Cost, Ladder, Quality, Rung
from sanderling.manifest import (
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
    Weight,
)
from sanderling.spec import ArrayInput, Component, ModelSpec, TensorSpec

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
WEIGHT_MEMBER = f"weights/{hashlib.sha256(WEIGHT.tobytes()).hexdigest()}"
GOLDEN_X = array_bytes(np.array([[1, 2, 3]], np.float32))


def manifest(**changes: object) -> Manifest:
    """A legal manifest of one component with one graph and one weight."""
    model = ModelSpec(
        name="tiny",
        inputs=(ArrayInput("x", "float32", ("batch", 3)),),
        components=(
            Component("c", (TensorSpec("x", "float32", ("batch", 3)),), (TensorSpec("y", "float32", ("batch", 4)),)),
        ),
        outputs=("y",),
    )
    variant = Variant("onnxruntime", "float32", "graphs/c.onnx", (Weight("w", "float32", (3, 4), WEIGHT_MEMBER),))
    whole = Manifest(
        schema=SCHEMA,
        model=model,
        graphs=(Graph("c", "full", (), "", None, 0, "", (variant,)),),
        golden=Golden((GoldenInput("x", None, "golden/x.npy"),), (GoldenCase({}, {"c": "full"}, {}, 1e-4),)),
        provenance=Provenance("", "", "", {}),
        budget=None,
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def measured() -> Measured:
    cost = Cost(1.0, 2.0, 3.0, 10)
    rung = Rung({}, {"c": "full"}, cost, {"c": cost}, None, Quality(1.0, 0.9, 1.0, 10))
    return Measured(
        "generic", {}, True, 2, {"c": {"full": Placement("onnxruntime", "float32", 1)}}, Ladder("accuracy", (rung,))
    )


def members(**changes: bytes) -> dict[str, bytes]:
    """The members of a whole bundle, some of them replaced."""
    whole = {
        "manifest.json": to_json(manifest()),
        "graphs/c.onnx": b"not opened here",
        WEIGHT_MEMBER: WEIGHT.tobytes(),
        "golden/x.npy": GOLDEN_X,
    }
    return {**whole, **changes}


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def check_all(path: Path) -> None:
    with Bundle.open(path) as bundle:
        bundle.verify()


def passes(path: Path) -> bool:
    try:
        check_all(path)
    except BundleError:
        return False
    return True
