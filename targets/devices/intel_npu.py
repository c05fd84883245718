"""The neural processor inside an Intel Core Ultra."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="intel_npu",
    description="Intel NPU",
    architecture="x86_64",
    accelerator="intel_npu",
    processor="NPU",
    targets=("openvino",),
    oldest={"openvino": "2025.0"},
    formats=("float16", "int8", "float32"),
    opset=20,
    ir_version=10,
    needs_static_shapes=True,
    sources={
        "targets": "OpenVINO's NPU plugin; not run on this hardware yet",
        "formats": "not measured; OpenVINO NPU device page: models of float16 and of int8",
        "accelerator": "Linux, drivers/accel/ivpu: the driver intel_vpu",
        "needs_static_shapes": "OpenVINO 2025, supported devices and features: dynamic shapes are not supported on NPU",
        "oldest": "the version that pyproject.toml asks for",
        "opset": (
            "opset 20 is what the tests open on openvino's CPU plugin; its ONNX reader is the same for every plugin"
        ),
    },
)
