"""NVIDIA Jetson Thor."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="jetson_thor",
    description="NVIDIA Jetson Thor",
    architecture="arm64",
    board="Thor",
    compute_capability="11.0",
    processor="CUDA",
    targets=("tensorrt", "onnxruntime"),
    oldest={"tensorrt": "10.13", "onnxruntime": "1.20"},
    formats=("float16", "int8", "float32"),
    opset=20,
    ir_version=10,
    memory_mb=(65536, 131072),
    sources={
        "targets": "onnx-tensorrt reads ONNX; not run on this hardware yet",
        "formats": (
            "not measured; its Blackwell GPU has tensor cores for float16 and int8, and for smaller floats that no "
            "pass writes yet"
        ),
        "compute_capability": "NVIDIA, table of GPU compute capabilities: Jetson T5000 11.0",
        "oldest": "NVIDIA JetPack 7 carries TensorRT 10.13 and Python 3.12",
        "power_modes": "not established: nvpmodel -q --verbose lists them on the device",
        "memory_mb": "NVIDIA Jetson Thor data sheet: T4000 64 GB, T5000 128 GB, shared with the processor",
        "board": "the device tree: Jetson AGX Thor Developer Kit",
        "opset": (
            "onnx-tensorrt, docs/operators.md and changelog of 10.1 GA: opsets 9 to 20, built with ONNX 1.16, whose "
            "IR version is 10; the parser logs the IR version and refuses none. Opset 20 on onnxruntime 1.20: its "
            "compatibility page"
        ),
    },
)
