"""Any 64-bit ARM processor, such as in a Raspberry Pi 5, a Jetson or a phone."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="arm64",
    description="64-bit ARM processor",
    architecture="arm64",
    requires=(),
    targets=("onnxruntime", "openvino"),
    formats=("float32",),
    memory_mb=None,
    source="targets: both engines publish wheels for arm64. formats: nothing is measured on arm64 yet.",
)
