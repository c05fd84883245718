"""64-bit Intel processors with tile matrix instructions (AMX), Xeon of the 4th generation and later."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="x86_64_amx",
    description="64-bit Intel processor with AMX",
    architecture="x86_64",
    requires=("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "amx_tile", "amx_int8", "amx_bf16"),
    targets=("onnxruntime", "openvino"),
    oldest={"onnxruntime": "1.20", "openvino": "2025.0"},
    formats=("int8", "bfloat16", "float32"),
    opset=20,
    ir_version=10,
    sources={
        "targets": "both engines publish wheels for x86_64",
        "formats": (
            "not measured; Intel's instruction set reference: AMX multiplies tiles of int8 and bfloat16 and has no "
            "float32. The targets compute float32 unless asked otherwise"
        ),
        "requires": "Linux, arch/x86/include/asm/cpufeatures.h: amx_tile, amx_int8, amx_bf16",
        "oldest": "the versions that pyproject.toml asks for",
        "opset": (
            "onnxruntime 1.20 reads opset 21 and IR version 10 (its compatibility page); 20 is what the tests open on "
            "both engines"
        ),
    },
)
