"""NVIDIA Jetson Orin Nano."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="jetson_orin_nano",
    description="NVIDIA Jetson Orin Nano",
    architecture="arm64",
    board="Orin Nano",
    compute_capability="8.7",
    processor="CUDA",
    targets=("tensorrt", "onnxruntime"),
    oldest={"tensorrt": "10.3", "onnxruntime": "1.20"},
    formats=("float16", "int8", "float32"),
    opset=20,
    ir_version=10,
    power_modes=("7W", "15W", "25W", "MAXN_SUPER"),
    memory_mb=(4096, 8192),
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
            "a published benchmark of the 8 GB module on Jetson Linux 36.4.7 (smolhub.com): nvpmodel has these four"
        ),
        "memory_mb": "NVIDIA Jetson Orin Nano data sheet: 4 or 8 GB, shared with the processor",
        "board": "the device tree: Jetson Orin Nano Developer Kit",
        "opset": (
            "onnx-tensorrt, docs/operators.md and changelog of 10.1 GA: opsets 9 to 20, built with ONNX 1.16, whose "
            "IR version is 10; the parser logs the IR version and refuses none. Opset 20 on onnxruntime 1.20: its "
            "compatibility page"
        ),
    },
)
