"""NVIDIA Jetson Orin NX."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="jetson_orin_nx",
    description="NVIDIA Jetson Orin NX",
    architecture="arm64",
    board="Orin NX",
    compute_capability="8.7",
    processor="CUDA",
    targets=("tensorrt", "onnxruntime"),
    oldest={"tensorrt": "10.3", "onnxruntime": "1.20"},
    formats=("float16", "int8", "float32"),
    opset=20,
    ir_version=10,
    power_modes=("10W", "15W", "25W", "40W", "MAXN_SUPER"),
    memory_mb=(8192, 16384),
    sources={
        "targets": "onnx-tensorrt reads ONNX; not run on this hardware yet",
        "formats": (
            "not measured; the Ampere GPU of Orin has tensor cores for float16 and int8 (NVIDIA Jetson Orin data "
            "sheets)"
        ),
        "compute_capability": "NVIDIA, table of GPU compute capabilities: Jetson Orin 8.7",
        "oldest": (
            "NVIDIA JetPack 6.1 and 6.2 carry TensorRT 10.3; JetPack 6.0 has 8.6, whose parser reads opset 17 only, "
            "which the exporter cannot write for every graph"
        ),
        "power_modes": (
            "NVIDIA nvpmodel_p3767_0000_super.conf of the 16 GB module, as published in "
            "LineageOS/android_device_nvidia_concord"
        ),
        "memory_mb": "NVIDIA Jetson Orin NX data sheet: 8 or 16 GB, shared with the processor",
        "board": "the device tree: Jetson Orin NX",
        "opset": (
            "onnx-tensorrt, docs/operators.md and changelog of 10.1 GA: opsets 9 to 20, built with ONNX 1.16, whose "
            "IR version is 10; the parser logs the IR version and refuses none. Opset 20 on onnxruntime 1.20: its "
            "compatibility page"
        ),
    },
)
