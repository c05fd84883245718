"""int8 weights; activations are quantized while the graph runs, with the range each tensor has at that moment.

No calibration is needed and outliers of one picture do not hurt another. ONNX Runtime fuses the written
DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul into DynamicQuantizeMatMul where one layer reads the tensor, and
into DynamicQuantizeLinear -> MatMulIntegerToFloat where several do. OpenVINO opens the same graph but computes the
pieces one by one, slower than float32 (`targets/devices/x86_64_avx512_vnni.py` has the figures), so it is not listed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sanderling.compile.calibration_feeds import check_feeds
from sanderling.compile.number_format import FLOAT_OPSET, Feeds, NumberFormat, demand, refusal
from sanderling.compile.onnx_graph import canonical, check_converted, gemms_as_products, infer, layers, prepared
from sanderling.compile.quiet import quiet
from sanderling.compile.smooth import NOTHING_TO_SMOOTH, can_smooth, smoothed


@dataclass(frozen=True)
class Int8Dynamic:
    """Options of the format.

    Attributes:
        exclude: shell patterns of node, weight or bias names; these layers stay in float32.
        reduce_range: use 7 bits for weights; `number_format.for_device` says where that is needed.
        smooth: alpha of SmoothQuant, 0 to leave outliers where they are; above 0 it needs feeds.
    """

    exclude: tuple[str, ...] = ()
    reduce_range: bool = False
    smooth: float = 0.0
    name: str = "int8_dynamic"
    targets: tuple[str, ...] = ("onnxruntime",)
    lossy: bool = True

    @property
    def needs_calibration(self) -> bool:
        """Only to smooth."""
        return self.smooth > 0

    def refuses(self, graph: bytes, target: str) -> str | None:
        """Return why this graph cannot have dynamic int8, or None."""
        if not 0 <= self.smooth <= 1:
            return f"smooth is {self.smooth}, expected 0 to 1"
        reason = refusal(self, graph, target, self.exclude, FLOAT_OPSET)
        if reason is None and not [layer for layer in layers(prepared(graph)) if self._takes(layer.operator)]:
            return "no MatMul or Gemm with a constant weight; Conv is quantized with int8_static only"
        if reason is None and self.smooth and not can_smooth(prepared(graph)):
            return NOTHING_TO_SMOOTH
        return reason

    def convert(self, graph: bytes, feeds: Feeds, target: str) -> bytes:
        """Return the graph with MatMulInteger in place of every layer that is not excluded."""
        demand(self, graph, target)
        model = prepared(graph)
        if self.smooth:
            check_feeds(model, feeds)
            model = smoothed(model, feeds, self.smooth)
        wanted = [layer for layer in layers(model) if self._takes(layer.operator) and not layer.matches(self.exclude)]
        model = gemms_as_products(model, wanted)
        with quiet():
            from onnxruntime.quantization import QuantizationMode, QuantType
            from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

            quantizer = ONNXQuantizer(
                infer(model), True, self.reduce_range, QuantizationMode.IntegerOps, False, QuantType.QInt8,
                QuantType.QUInt8, None, [layer.node for layer in wanted], [], ["MatMul"],
                {"MatMulConstBOnly": True},
            )  # fmt: skip
            quantizer.quantize_model()
        check_converted(quantizer.model.model, model, wanted, self.name)
        return canonical(quantizer.model.model, graph)

    def _takes(self, operator: str) -> bool:
        return operator != "Conv"


FORMAT: NumberFormat = Int8Dynamic()
