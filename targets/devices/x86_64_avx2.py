"""64-bit Intel or AMD processors with AVX2, made since about 2013."""

from __future__ import annotations

from sanderling.device import Device

DEVICE = Device(
    name="x86_64_avx2",
    description="64-bit Intel or AMD processor with AVX2",
    architecture="x86_64",
    requires=("avx2", "fma"),
    targets=("onnxruntime", "openvino"),
    oldest={"onnxruntime": "1.20", "openvino": "2025.0"},
    formats=("float32", "int8"),
    opset=20,
    ir_version=10,
    sources={
        "targets": (
            "measured with AVX2 and without VNNI, 2 threads, CLIP ViT-B/16 vision tower, milliseconds: float32 takes "
            "239 on onnxruntime and 281 on openvino"
        ),
        "formats": (
            "measured with AVX2 and without VNNI, 2 threads, CLIP ViT-B/16 vision tower, milliseconds: int8 takes 169 "
            "with dynamic and 191 with static quantization on onnxruntime, 259 on openvino; one static form takes "
            "485, so measure it"
        ),
        "oldest": "the versions that pyproject.toml asks for",
        "opset": (
            "onnxruntime 1.20 reads opset 21 and IR version 10 (its compatibility page); 20 is what the tests open on "
            "both engines"
        ),
    },
)
