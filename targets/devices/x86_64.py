"""Any 64-bit Intel or AMD processor."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="x86_64",
    description="64-bit Intel or AMD processor",
    architecture="x86_64",
    requires=(),
    targets=("onnxruntime", "openvino"),
    formats=("float32",),
    memory_mb=None,
    source="targets: both engines publish wheels for x86_64. formats: nothing is measured on processors without AVX2.",
)
