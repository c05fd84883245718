"""The Raspberry Pi 5: four Cortex-A76 cores."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="raspberry_pi_5",
    description="Raspberry Pi 5 (Cortex-A76)",
    architecture="arm64",
    requires=("asimddp",),
    board="Raspberry Pi 5",
    targets=("onnxruntime", "openvino"),
    oldest={"onnxruntime": "1.20", "openvino": "2025.0"},
    formats=("float32", "int8"),
    opset=20,
    ir_version=10,
    memory_mb=(2048, 4096, 8192, 16384),
    sources={
        "targets": "both engines publish wheels for arm64",
        "formats": (
            "nothing is measured on this board yet; its cores have the int8 dot product (asimddp), so int8 is worth "
            "trying"
        ),
        "board": "the board's own device tree: Raspberry Pi 5 Model B",
        "requires": "Arm Cortex-A76: Armv8.2-A with the dot product instructions",
        "memory_mb": "Raspberry Pi 5 product page: 2, 4, 8 or 16 GB",
        "power_modes": "the board has none",
        "oldest": "the versions that pyproject.toml asks for",
        "opset": (
            "onnxruntime 1.20 reads opset 21 and IR version 10 (its compatibility page); 20 is what the tests open on "
            "both engines"
        ),
    },
)
