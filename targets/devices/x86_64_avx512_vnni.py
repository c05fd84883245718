"""64-bit Intel or AMD processors with AVX-512 and its int8 dot product (VNNI)."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="x86_64_avx512_vnni",
    description="64-bit Intel or AMD processor with AVX-512 VNNI",
    architecture="x86_64",
    requires=("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    targets=("onnxruntime", "openvino"),
    oldest={"onnxruntime": "1.20", "openvino": "2025.0"},
    formats=("int8", "float32"),
    opset=20,
    ir_version=10,
    sources={
        "targets": (
            "measured on an AMD EPYC with AVX-512 VNNI, 2 busy cores, 4 feed-forward layers of width 768 on 197 "
            "tokens, least milliseconds of 40: float32 takes 77 on onnxruntime and 75 on openvino"
        ),
        "formats": (
            "measured on an AMD EPYC with AVX-512 VNNI, 2 busy cores, 4 feed-forward layers of width 768 on 197 "
            "tokens, least milliseconds of 40: int8 takes 16 with dynamic quantization on onnxruntime; openvino takes "
            "92 for the same file"
        ),
        "oldest": "the versions that pyproject.toml asks for",
        "opset": (
            "onnxruntime 1.20 reads opset 21 and IR version 10 (its compatibility page); 20 is what the tests open on "
            "both engines"
        ),
    },
)
