"""Weights in groups of small integers, activations in float32: for layers that wait for memory, as decoders do.

A group of rows of one output channel shares a scale and a zero point (round to nearest, as Dettmers & Zettlemoyer
2023, "The case for 4-bit precision", section 2). ONNX Runtime has an operator that multiplies by packed groups,
MatMulNBits. For OpenVINO the graph says DequantizeLinear in blocks, ONNX's own operator, which it fuses with the
product; MatMulNBits it opens as well, but then nobody can infer shapes behind it, which our rules for OpenVINO need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto

from sanderling.compile.nncf_library import load_nncf, missing_nncf
from sanderling.compile.number_format import FLOAT_OPSET, Feeds, demand, refusal
from sanderling.compile.onnx_graph import Layer, canonical, check_converted, gemms_as_products, layers, opset, prepared
from sanderling.compile.quiet import quiet
from sanderling.targets.rules.operators import parse

_BLOCKS_OPSET = 21
"""Operator set that brought DequantizeLinear in blocks and 4-bit integers."""

_NEXT_TO_BLOCKS = 20
"""From here to 21 only types were added to operators, but for GroupNormalization."""

_SMALLEST_GROUP = 16
"""What MatMulNBits takes at least."""

_USUAL_GROUP = 32
"""Where accuracy stops gaining much from smaller groups and scales are an eighth of 4-bit weights."""

_INT8_ACCUMULATION = 4
"""MatMulNBits accuracy level at which it rounds activations to int8 to multiply integers."""


@dataclass(frozen=True)
class WeightOnly:
    """Options of a weight-only format.

    Attributes:
        name: "int8_weights" or "int4_weights".
        bits: 8 or 4.
        group: rows of a weight that share a scale; a power of two, 16 or more. None for 32, or for whole columns where
            only these can be had: 8 bits on OpenVINO.
        symmetric: give groups no zero point; smaller, and wider steps where the weights have one sign.
        int8_activations: let ONNX Runtime round activations to int8 on the fly, faster and lossier.
        exclude: shell patterns of node, weight or bias names; these layers stay in float32.
    """

    name: str
    bits: int
    group: int | None = None
    symmetric: bool = False
    int8_activations: bool = False
    exclude: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("onnxruntime", "openvino")
    lossy: bool = True
    needs_calibration: bool = False

    def refuses(self, graph: bytes, target: str) -> str | None:
        """Return why this graph cannot have its weights in groups on this target, or None."""
        if self._group < _SMALLEST_GROUP or self._group & (self._group - 1):
            return f"group is {self.group}, expected a power of two from {_SMALLEST_GROUP}"
        reason = refusal(self, graph, target, self.exclude, FLOAT_OPSET)
        if reason is None and not self._wanted(prepared(graph)):
            return "no MatMul or Gemm with a constant weight; a Conv has no weight-only kernel"
        if reason is not None or target == "onnxruntime":
            return reason
        return self._openvino_refuses(parse(graph))

    def convert(self, graph: bytes, feeds: Feeds, target: str) -> bytes:
        """Return the graph with the weight of every MatMul and Gemm that is not excluded in groups."""
        demand(self, graph, target)
        model = prepared(graph)
        wanted = self._wanted(model)
        model = gemms_as_products(model, wanted)
        source = ModelProto()
        source.CopyFrom(model)
        kept = [node.name for node in model.graph.node if node.name not in {layer.node for layer in wanted}]
        packed = self._for_onnxruntime(model, kept) if target == "onnxruntime" else self._for_openvino(model, wanted)
        check_converted(packed, source, wanted, self.name)
        return canonical(packed, graph)

    def _wanted(self, model: ModelProto) -> list[Layer]:
        found = layers(model)
        return [layer for layer in found if layer.operator != "Conv" and not layer.matches(self.exclude)]

    @property
    def _group(self) -> int:
        return _USUAL_GROUP if self.group is None else self.group

    def _openvino_refuses(self, model: ModelProto) -> str | None:
        missing = missing_nncf(f"the format {self.name} on openvino")
        if missing is not None:
            return missing
        if self.int8_activations:
            return "int8_activations is an option of onnxruntime; openvino would ignore it"
        if self.bits == 8 and self.group is not None:
            return f"group is {self.group}, but with 8 bits openvino takes whole columns only; leave it out"
        if self.bits == 4 and opset(model) < _NEXT_TO_BLOCKS:
            return f"the graph has operator set {opset(model)}, blocks need {_NEXT_TO_BLOCKS} or later; export it again"
        if self.bits == 4 and any(node.op_type == "GroupNormalization" for node in model.graph.node):
            return "GroupNormalization changed its meaning in the operator set that 4-bit blocks need"
        return None

    def _for_onnxruntime(self, model: ModelProto, kept: Sequence[str]) -> ModelProto:
        with quiet():
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

            level = _INT8_ACCUMULATION if self.int8_activations else None
            quantizer: Any = MatMulNBitsQuantizer(
                model, self.bits, self._group, self.symmetric, level, nodes_to_exclude=list(kept)
            )
            quantizer.process()
        packed: ModelProto = quantizer.model.model
        return packed

    def _for_openvino(self, model: ModelProto, wanted: Sequence[Layer]) -> ModelProto:
        nodes = {layer.node for layer in wanted}
        kept = [layer.node for layer in layers(model) if layer.node not in nodes]
        if self.bits == 4:
            for used in model.opset_import:
                if used.domain in ("", "ai.onnx"):
                    used.version = max(used.version, _BLOCKS_OPSET)
        with quiet():
            nncf = load_nncf()
            kind = f"INT{self.bits}_{'SYM' if self.symmetric else 'ASYM'}"
            blocks = {"group_size": self._group, "ratio": 1.0, "all_layers": True} if self.bits == 4 else {}
            packed: ModelProto = nncf.compress_weights(
                model,
                mode=nncf.CompressWeightsMode[kind],
                ignored_scope=nncf.IgnoredScope(names=kept) if kept else None,
                **blocks,
            )
        return packed
