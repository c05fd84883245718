"""int8 weights and activations, with activation ranges learned from calibration feeds.

Written as QuantizeLinear/DequantizeLinear pairs around float layers. A layer's result stays in float32: ONNX Runtime
computes DequantizeLinear -> MatMul as one MatMulIntegerToFloat, OpenVINO and TensorRT as one int8 product, and residual
sums, softmax and normalisations never see rounded values. Products of two activations (attention) stay in float32.

Weights are int8 with a scale per output channel. Activations are uint8 with a zero point on processors; for TensorRT
they are int8 with zero point 0 and biases stay in float32 (`targets/rules/tensorrt_quantization.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from sanderling.calibration.ranges import Extremes, Histogram
from sanderling.compile.calibration_feeds import check_feeds
from sanderling.compile.intermediates import run_inside
from sanderling.compile.number_format import FLOAT_OPSET, Feeds, NumberFormat, demand, refusal
from sanderling.compile.onnx_graph import Layer, canonical, check_converted, gemms_as_products, infer, layers, prepared
from sanderling.compile.quiet import quiet
from sanderling.compile.smooth import NOTHING_TO_SMOOTH, can_smooth, smoothed

RANGES = ("minmax", "percentile", "entropy")


@dataclass(frozen=True)
class Int8Static:
    """Options of the format.

    Attributes:
        exclude: shell patterns of node, weight or bias names; these layers stay in float32.
        ranges: "minmax" keeps every value seen, "percentile" cuts the rarest, "entropy" loses the least information.
        percentile: share of the values kept, in percent; only with ranges "percentile".
        reduce_range: use 7 bits for weights; `number_format.for_device` says where that is needed.
        smooth: alpha of SmoothQuant, 0 to leave outliers where they are.
    """

    exclude: tuple[str, ...] = ()
    ranges: str = "minmax"
    percentile: float | None = None
    reduce_range: bool = False
    smooth: float = 0.0
    name: str = "int8_static"
    targets: tuple[str, ...] = ("onnxruntime", "openvino", "tensorrt")
    lossy: bool = True
    needs_calibration: bool = True

    def refuses(self, graph: bytes, target: str) -> str | None:
        """Return why this graph cannot have static int8, or None."""
        if self.ranges not in RANGES:
            return f"ranges is {self.ranges!r}, expected one of {', '.join(RANGES)}"
        if (self.percentile is not None) != (self.ranges == "percentile"):
            return f"ranges is {self.ranges!r} and percentile {self.percentile}; 'percentile' and 99.99 go together"
        if self.percentile is not None and not 50 < self.percentile <= 100:
            return f"percentile is {self.percentile}, expected above 50 and up to 100"
        if not 0 <= self.smooth <= 1:
            return f"smooth is {self.smooth}, expected 0 to 1"
        reason = refusal(self, graph, target, self.exclude, FLOAT_OPSET)
        return NOTHING_TO_SMOOTH if reason is None and self.smooth and not can_smooth(prepared(graph)) else reason

    def convert(self, graph: bytes, feeds: Feeds, target: str) -> bytes:
        """Return the graph with quantized inputs and weights for every layer that is not excluded."""
        demand(self, graph, target)
        model = prepared(graph)
        check_feeds(model, feeds)
        if self.smooth:
            model = smoothed(model, feeds, self.smooth)
        # The quantizer scales the bias of a Gemm wrongly where beta is not 1 (ONNX Runtime 1.32).
        model = gemms_as_products(model, [layer for layer in layers(model) if not layer.matches(self.exclude)])
        wanted = [layer for layer in layers(model) if not layer.matches(self.exclude)]
        ranges = self._observe(model, wanted, feeds)
        quantized = _quantize(model, wanted, ranges, self.reduce_range, target)
        check_converted(quantized, model, wanted, self.name)
        return canonical(quantized, graph)

    def _observe(self, model: ModelProto, wanted: Sequence[Layer], feeds: Feeds) -> dict[str, tuple[float, float]]:
        """Return tensor -> smallest and largest value that its integers stand for."""
        # An engine fuses a convolution only when its result is quantized as well.
        results = [layer.output for layer in wanted if layer.operator == "Conv"]
        tensors = list(dict.fromkeys([layer.activation for layer in wanted] + results))
        extremes = {name: Extremes() for name in tensors}
        for inside in run_inside(model, tensors, feeds):
            for name, array in inside.items():
                extremes[name].add(array)
        if self.ranges == "minmax":
            return {name: (seen.low, seen.high) for name, seen in extremes.items()}
        histograms = {name: Histogram(seen.low, _above(seen)) for name, seen in extremes.items()}
        for inside in run_inside(model, tensors, feeds):
            for name, array in inside.items():
                histograms[name].add(array)
        return {name: self._cut(histogram) for name, histogram in histograms.items()}

    def _cut(self, histogram: Histogram) -> tuple[float, float]:
        return histogram.entropy() if self.percentile is None else histogram.percentile(self.percentile)


FORMAT: NumberFormat = Int8Static()


def _above(seen: Extremes) -> float:
    """Return the largest value, or one above it where the tensor never changes."""
    return seen.high if seen.high > seen.low else seen.low + 1


def _quantize(
    model: ModelProto, wanted: Sequence[Layer], ranges: dict[str, tuple[float, float]], reduce_range: bool, target: str
) -> ModelProto:
    symmetric = target == "tensorrt"
    with quiet():
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        seen = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
        quantizer: Any = QDQQuantizer(
            infer(model), True, reduce_range, QuantType.QInt8, QuantType.QInt8 if symmetric else QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, {n: (np.array(a), np.array(b)) for n, (a, b) in seen.items()}),
            [layer.node for layer in wanted], [], ["MatMul", "Conv"],
            {
                "ActivationSymmetric": symmetric,
                "QuantizeBias": not symmetric,
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )  # fmt: skip
        quantizer.quantize_model()
    quantized: ModelProto = quantizer.model.model
    return quantized
