"""NVIDIA GPUs of the Blackwell generation for desktops (GeForce RTX 50, RTX PRO Blackwell)."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="nvidia_blackwell",
    description="NVIDIA desktop GPU, Blackwell",
    architecture="x86_64",
    accelerator="nvidia",
    compute_capability="12.0",
    processor="CUDA",
    targets=("tensorrt", "onnxruntime"),
    oldest={"tensorrt": "10.8", "onnxruntime": "1.20"},
    formats=("float16", "int8", "float32"),
    opset=20,
    ir_version=10,
    sources={
        "targets": "onnx-tensorrt reads ONNX; not run on this hardware yet",
        "formats": (
            "not measured; tensor cores for float16, bfloat16, int8 and smaller floats (NVIDIA RTX Blackwell white "
            "paper); no pass writes those yet"
        ),
        "compute_capability": "NVIDIA, table of GPU compute capabilities: 12.0",
        "oldest": "TensorRT 10.8 is the first release with these GPUs (its release notes)",
        "opset": (
            "onnx-tensorrt, docs/operators.md and changelog of 10.1 GA: opsets 9 to 20, built with ONNX 1.16, whose "
            "IR version is 10; the parser logs the IR version and refuses none. Opset 20 on onnxruntime 1.20: its "
            "compatibility page"
        ),
    },
)
