"""The graphics processor inside an Intel processor."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="intel_igpu",
    description="Intel integrated graphics",
    architecture="x86_64",
    accelerator="intel_igpu",
    processor="GPU",
    targets=("openvino",),
    oldest={"openvino": "2025.0"},
    formats=("float16", "int8", "float32"),
    opset=20,
    ir_version=10,
    sources={
        "targets": "OpenVINO's GPU plugin; not run on this hardware yet",
        "formats": "not measured; OpenVINO GPU device page: float16 is what the plugin computes in by default",
        "accelerator": "Intel's integrated graphics is PCI device 00:02.0",
        "needs_static_shapes": (
            "OpenVINO 2025, supported devices and features: dynamic shapes are partly supported on GPU, so a graph "
            "that needs them is tried on the device"
        ),
        "oldest": "the version that pyproject.toml asks for",
        "opset": (
            "opset 20 is what the tests open on openvino's CPU plugin; its ONNX reader is the same for every plugin"
        ),
    },
)
