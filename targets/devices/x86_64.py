"""Any 64-bit Intel or AMD processor."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="x86_64",
    description="64-bit Intel or AMD processor",
    architecture="x86_64",
    targets=("onnxruntime", "openvino"),
    oldest={"onnxruntime": "1.20", "openvino": "2025.0"},
    formats=("float32",),
    opset=20,
    ir_version=10,
    sources={
        "targets": "both engines publish wheels for x86_64",
        "formats": "nothing is measured on processors without AVX2",
        "oldest": "the versions that pyproject.toml asks for",
        "opset": (
            "onnxruntime 1.20 reads opset 21 and IR version 10 (its compatibility page); 20 is what the tests open on "
            "both engines"
        ),
    },
)
