"""NVIDIA Jetson AGX Orin."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="jetson_agx_orin",
    description="NVIDIA Jetson AGX Orin",
    architecture="arm64",
    board="AGX Orin",
    compute_capability="8.7",
    processor="CUDA",
    targets=("tensorrt", "onnxruntime"),
    oldest={"tensorrt": "10.3", "onnxruntime": "1.20"},
    formats=("float16", "int8", "float32"),
    opset=20,
    ir_version=10,
    power_modes=("15W", "30W", "50W", "MAXN"),
    memory_mb=(32768, 65536),
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
            "an owner of the 32 GB module in the NVIDIA developer forum (thread 323456): 15W, 30W, 50W and MAXN"
        ),
        "memory_mb": "NVIDIA Jetson AGX Orin data sheet: 32 or 64 GB, shared with the processor",
        "board": "the device tree: Jetson AGX Orin Developer Kit",
        "opset": (
            "onnx-tensorrt, docs/operators.md and changelog of 10.1 GA: opsets 9 to 20, built with ONNX 1.16, whose "
            "IR version is 10; the parser logs the IR version and refuses none. Opset 20 on onnxruntime 1.20: its "
            "compatibility page"
        ),
    },
)
