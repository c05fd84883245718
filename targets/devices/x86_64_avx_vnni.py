"""64-bit Intel or AMD processors with the int8 dot product on 256-bit registers (AVX-VNNI) and without AVX-512."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="x86_64_avx_vnni",
    description="64-bit Intel or AMD processor with AVX-VNNI",
    architecture="x86_64",
    requires=("avx2", "fma", "avx_vnni"),
    targets=("onnxruntime", "openvino"),
    oldest={"onnxruntime": "1.20", "openvino": "2025.0"},
    formats=("int8", "float32"),
    opset=20,
    ir_version=10,
    sources={
        "targets": "both engines publish wheels for x86_64",
        "formats": (
            "not measured; Intel's instruction set reference: VPDPBUSD multiplies and adds four int8 pairs per lane "
            "in one instruction, so int8 is worth trying first"
        ),
        "requires": (
            "Linux, arch/x86/include/asm/cpufeatures.h: avx_vnni is in the cores of 12th generation Core and later"
        ),
        "oldest": "the versions that pyproject.toml asks for",
        "opset": (
            "onnxruntime 1.20 reads opset 21 and IR version 10 (its compatibility page); 20 is what the tests open on "
            "both engines"
        ),
    },
)
