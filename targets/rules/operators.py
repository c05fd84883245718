"""Finds the nodes that an engine will not run, and says them by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sanderling.errors import MissingExtraError, UnsupportedError
from sanderling.targets import Refusal

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto


def parse(graph: bytes) -> ModelProto:
    """Return a serialised ONNX model as an object.

    Raises:
        MissingExtraError: the onnx library is not installed.
        UnsupportedError: the bytes are no ONNX model.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtraError("onnx", "compile", "reading a graph") from error
    try:
        return onnx.load_from_string(graph)
    except DecodeError as error:
        raise UnsupportedError(f"these {len(graph)} bytes are no ONNX model: {error}") from error


def nodes(body: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    """Yield every node, with those in the branches and loop bodies of others."""
    for node in body.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes(inner)


def strangers(model: ModelProto, domains: frozenset[str]) -> tuple[Refusal, ...]:
    """Return a refusal for every node whose operator nobody defines.

    Args:
        model: the graph; functions it brings along are known.
        domains: operator domains that the engine adds to ONNX's own.
    """
    from onnx import defs

    own = {(function.domain, function.name) for function in model.functions}
    found = []
    bodies: list[GraphProto | FunctionProto] = [model.graph, *model.functions]
    for body in bodies:
        for node in nodes(body):
            known = node.domain in domains or (node.domain, node.op_type) in own
            if not known and not defs.has(node.op_type, domain=node.domain):
                reason = f"no operator {node.op_type} is known in domain {node.domain or 'ai.onnx'!r}"
                found.append(Refusal(node.op_type, node.name, reason))
    return tuple(found)


def blamed(model: ModelProto, report: str) -> tuple[Refusal, ...]:
    """Return a refusal for every node that an engine's message is about.

    Args:
        model: the graph the engine refused.
        report: what the engine said.

    Returns:
        The nodes whose operator the report names; only those whose own name it quotes too, when it quotes any. One
        refusal without operator and node when the report names none.
    """
    found = [node for node in nodes(model.graph) if _names_operator(report, node.op_type)]
    quoted = [node for node in found if node.name and _quotes(report, node.name)]
    refusals = tuple(Refusal(node.op_type, node.name, report) for node in quoted or found)
    return refusals or (Refusal("", "", report),)


def _names_operator(report: str, operator: str) -> bool:
    """Say whether a report names an operator as engines do: `Relu-20`, `Relu(14)`, `'Relu'`, `(Relu)`, `my.Relu`."""
    name = re.escape(operator)
    return re.search(rf"\b{name}(-\d+|\(-?\d+\))|['(]{name}['),]|[.:]{name}\b", report) is not None


def _quotes(report: str, name: str) -> bool:
    return re.search(rf"['\"(]{re.escape(name)}['\")]", report) is not None


def refusals_by_trial(
    graph: bytes, trial: Callable[[bytes], object], domains: frozenset[str] = frozenset()
) -> tuple[Refusal, ...]:
    """Return what keeps a graph from running: operators nobody defines, else what the engine says when it opens it.

    Args:
        graph: a serialised ONNX model.
        trial: opens it; raises UnsupportedError.
        domains: as for `strangers`.
    """
    model = parse(graph)
    unknown = strangers(model, domains)
    if unknown:
        return unknown
    try:
        trial(graph)
    except UnsupportedError as error:
        return blamed(model, str(error))
    return ()
