"""Any 64-bit ARM processor, such as in a phone or a single-board computer."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="arm64",
    description="64-bit ARM processor",
    architecture="arm64",
    targets=("onnxruntime", "openvino"),
    oldest={"onnxruntime": "1.20", "openvino": "2025.0"},
    formats=("float32",),
    opset=20,
    ir_version=10,
    sources={
        "targets": "both engines publish wheels for arm64",
        "formats": "nothing is measured on arm64 yet",
        "oldest": "the versions that pyproject.toml asks for",
        "opset": (
            "onnxruntime 1.20 reads opset 21 and IR version 10 (its compatibility page); 20 is what the tests open on "
            "both engines"
        ),
    },
)
