"""NVIDIA GPUs of the Ada Lovelace generation (GeForce RTX 40, RTX Ada, L4, L40)."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="nvidia_ada",
    description="NVIDIA GPU, Ada Lovelace",
    architecture="x86_64",
    accelerator="nvidia",
    compute_capability="8.9",
    processor="CUDA",
    targets=("tensorrt", "onnxruntime"),
    oldest={"tensorrt": "10.3", "onnxruntime": "1.20"},
    formats=("float16", "int8", "float32"),
    opset=20,
    ir_version=10,
    sources={
        "targets": "onnx-tensorrt reads ONNX; not run on this hardware yet",
        "formats": (
            "not measured; tensor cores for float16, bfloat16, int8 and float8 (NVIDIA Ada white paper); no pass "
            "writes float8 yet"
        ),
        "compute_capability": "NVIDIA, table of GPU compute capabilities: 8.9",
        "oldest": "the oldest TensorRT of the supported Jetsons, which knows this GPU too",
        "opset": (
            "onnx-tensorrt, docs/operators.md and changelog of 10.1 GA: opsets 9 to 20, built with ONNX 1.16, whose "
            "IR version is 10; the parser logs the IR version and refuses none. Opset 20 on onnxruntime 1.20: its "
            "compatibility page"
        ),
    },
)
