"""int8 weights and activations as NNCF places them, for OpenVINO.

NNCF knows which of OpenVINO's CPU kernels take int8 and quantizes for these, attention included; it smooths outliers
and corrects biases. On ONNX Runtime the same graph ran twice as slow as float32, so that target is not listed. NNCF
averages the extremes of the feeds, so every feed counts the same whatever its number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sanderling.compile.calibration_feeds import check_feeds
from sanderling.compile.nncf_library import load_nncf, missing_nncf
from sanderling.compile.number_format import FLOAT_OPSET, Feeds, NumberFormat, demand, refusal
from sanderling.compile.onnx_graph import Layer, canonical, check_converted, layers, prepared
from sanderling.compile.quiet import quiet

_OFF = -1
"""NNCF's alpha for no smoothing."""


@dataclass(frozen=True)
class Int8Nncf:
    """Options of the format.

    Attributes:
        exclude: shell patterns of node, weight or bias names; these layers stay in float32.
        smooth: alpha of SmoothQuant, 0 to leave outliers where they are. What cannot be folded into a normalisation
            becomes a multiplication. NNCF's own default.
        symmetric: give activations no zero point; faster kernels, wider steps where values have one sign.
    """

    exclude: tuple[str, ...] = ()
    smooth: float = 0.95
    symmetric: bool = False
    name: str = "int8_nncf"
    targets: tuple[str, ...] = ("openvino",)
    lossy: bool = True
    needs_calibration: bool = True

    def refuses(self, graph: bytes, target: str) -> str | None:
        """Return why NNCF cannot quantize this graph, or None."""
        missing = missing_nncf("the format int8_nncf")
        if missing is not None:
            return missing
        if not 0 <= self.smooth <= 1:
            return f"smooth is {self.smooth}, expected 0 to 1"
        return refusal(self, graph, target, self.exclude, FLOAT_OPSET)

    def convert(self, graph: bytes, feeds: Feeds, target: str) -> bytes:
        """Return the graph as NNCF's post-training quantization leaves it."""
        demand(self, graph, target)
        model = prepared(graph)
        check_feeds(model, feeds)
        source = prepared(graph)
        found = layers(source)
        kept = [layer.node for layer in found if layer.matches(self.exclude)]
        quantized = self._quantize(model, feeds, kept)
        check_converted(quantized, source, _wanted(found, kept), self.name)
        return canonical(quantized, graph)

    def _quantize(self, model: Any, feeds: Feeds, kept: Sequence[str]) -> Any:
        with quiet():
            nncf = load_nncf()
            alpha = self.smooth or _OFF
            return nncf.quantize(
                model,
                nncf.Dataset([dict(feed) for feed in feeds]),
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.PERFORMANCE if self.symmetric else nncf.QuantizationPreset.MIXED,
                subset_size=len(feeds),
                ignored_scope=nncf.IgnoredScope(names=list(kept)) if kept else None,
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=alpha, convolution=_OFF)
                ),
            )


FORMAT: NumberFormat = Int8Nncf()


def _wanted(found: Sequence[Layer], kept: Sequence[str]) -> list[Layer]:
    return [layer for layer in found if layer.node not in kept]
