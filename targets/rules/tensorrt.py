"""Finds what the ONNX parser of TensorRT 10 does not take, on the host and without TensorRT.

The rules are read from the parser's published table and source (see `tensorrt_operators`); no TensorRT has confirmed
them here. They are for TensorRT 10: version 8.6 has no Gelu, Mish, Hardmax, CastLike, bfloat16 or 64-bit integers of
its own and reads opsets up to 17. TopK takes K as a run-time tensor from 8.6 and integers from 8.6 (int32) and 10
(int64); a run-time K above 3839 can only be excluded by the optimisation profile.

Shapes that depend on what is computed (NonZero, NonMaxSuppression) are refused although TensorRT can allocate for
them: no plan can bound what they cost.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from sanderling.targets import Refusal
from sanderling.targets.rules.graph_facts import GraphFacts, facts, setting
from sanderling.targets.rules.operators import nodes
from sanderling.targets.rules.tensorrt_operators import (
    DATA_INPUT,
    FIXED_INPUTS,
    FORMATS,
    INPUT_NAMES,
    INSTEAD,
    MOST_K,
    OPSETS,
    SHAPE_INPUTS,
)
from sanderling.targets.rules.tensorrt_settings import SETTINGS

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Rule = Callable[["NodeProto", GraphFacts], "str | None"]
"""What is wrong with a node, in one sentence, or None."""

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_STACK = "pkg.torch.onnx.stack_trace"
"""Where torch's exporter writes which lines of Python a node comes from; the innermost is last."""


def refusals(model: ModelProto) -> tuple[Refusal, ...]:
    """Return everything in a model that TensorRT does not take, in the graph's order; one reason per node."""
    from onnx import inliner

    versions = [opset.version for opset in model.opset_import if opset.domain == ""]
    whole = _unreadable(versions)
    if whole is not None:
        return (whole,)
    flat = inliner.inline_local_functions(model) if model.functions else model
    known = facts(flat)
    found = [(node, reason) for node in nodes(flat.graph) if (reason := _first_reason(node, known)) is not None]
    return tuple(
        Refusal(node.op_type, node.name, reason, source_line(node), INSTEAD.get(node.op_type, ""))
        for node, reason in found
    )


def source_line(node: NodeProto) -> str:
    """Return the line of Python that a node comes from, such as "model.py:45", if the exporter wrote it; else ""."""
    trace = next((entry.value for entry in node.metadata_props if entry.key == _STACK), "")
    frames = _FRAME.findall(trace)
    return f"{frames[-1][0].rpartition('/')[2]}:{frames[-1][1]}" if frames else ""


def _unreadable(versions: list[int]) -> Refusal | None:
    lowest, highest = OPSETS
    if not versions or lowest <= versions[0] <= highest:
        return None
    return Refusal("", "", f"the graph is of opset {versions[0]}; TensorRT 10 reads opsets {lowest} to {highest}")


def _first_reason(node: NodeProto, known: GraphFacts) -> str | None:
    return next(
        (reason for rule in (*_EVERYWHERE, *SETTINGS.get(node.op_type, ())) if (reason := rule(node, known))), None
    )


def _unknown(node: NodeProto, known: GraphFacts) -> str | None:
    if node.domain not in {"", "ai.onnx"}:
        return f"TensorRT has no operator {node.op_type} of domain {node.domain!r}; it would need a plugin"
    return None if node.op_type in FORMATS else f"TensorRT has no operator {node.op_type}"


def _format(node: NodeProto, known: GraphFacts) -> str | None:
    """Refuse a number format that the operator has no kernel for, or that TensorRT would turn into another."""
    for name in (*node.input, *node.output):
        if known.formats.get(name) == "float64":
            return f"{name!r} is float64, which TensorRT would compute in float32; export it as float32"
    place = DATA_INPUT.get(node.op_type, 0)
    data = node.input[place] if len(node.input) > place else ""
    given = known.formats.get(data)
    if given is None or given in FORMATS[node.op_type]:
        return None
    return f"{data!r} is {given}; TensorRT's {node.op_type} takes {', '.join(sorted(FORMATS[node.op_type]))}"


def _late_shape(node: NodeProto, known: GraphFacts) -> str | None:
    if node.op_type in {"NonZero", "NonMaxSuppression"}:
        return "how long its output is depends on what is computed, so nothing after it has a bounded cost"
    for place in SHAPE_INPUTS.get(node.op_type, ()):
        name = node.input[place] if len(node.input) > place else ""
        if name and name not in known.early:
            return f"the shape of its output depends on {name!r}, which is computed from data; make it an input"
    return None


def _unfixed(node: NodeProto, known: GraphFacts) -> str | None:
    for place in FIXED_INPUTS.get(node.op_type, ()):
        name = node.input[place] if len(node.input) > place else ""
        if name and name not in known.constants:
            what = INPUT_NAMES.get(node.op_type, "axes")
            return f"its {what} {name!r} must be a constant of the graph"
    return None


def _too_many(node: NodeProto, known: GraphFacts) -> str | None:
    """Refuse TopK with too high a constant K."""
    k = known.array(node.input[1]) if node.op_type == "TopK" and len(node.input) > 1 else None
    if k is not None and k.max() > MOST_K:
        return f"K is {int(k.max())}; TensorRT takes at most {MOST_K}"
    return None


def _unsorted(node: NodeProto, known: GraphFacts) -> str | None:
    if node.op_type == "TopK" and setting(node, "sorted", 1) != 1:
        return "sorted is 0; TensorRT takes only 1"
    return None


_EVERYWHERE: tuple[Rule, ...] = (_unknown, _format, _late_shape, _unfixed, _too_many, _unsorted)
