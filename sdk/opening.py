"""Opens a bundle's graphs on engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sanderling.bundle import Bundle
from sanderling.engine import Engine, OpenOptions, opener
from sanderling.errors import UnknownNameError
from sanderling.manifest import FLOAT32, Graph, Manifest, Placement
from sanderling.weights import restore


def open_graph(bundle: Bundle, graph: Graph, placement: Placement) -> Engine:
    """Return an engine for a graph, run the way a placement says.

    Raises:
        UnknownNameError: the bundle has no such variant of the graph.
        MissingExtraError: the engine is not installed.
        UnsupportedError: the engine cannot run the graph here.
    """
    return opener(placement.target).open(read_graph(bundle, graph, placement), OpenOptions(threads=placement.threads))


def read_graph(bundle: Bundle, graph: Graph, placement: Placement) -> bytes:
    """Return the serialised ONNX model that a placement runs, its weights in it.

    Raises:
        UnknownNameError: the bundle has no such variant of the graph.
    """
    variants = {(variant.target, variant.format): variant for variant in graph.variants}
    wanted = (placement.target, placement.format)
    if wanted not in variants:
        known = [" ".join(pair) for pair in variants]
        raise UnknownNameError(f"variant of {graph.component}/{graph.name}", " ".join(wanted), known)
    variant = variants[wanted]
    return restore(bundle.read(variant.member), variant.weights, bundle.read)


def same_everywhere(manifest: Manifest, placement: Placement) -> dict[str, dict[str, Placement]]:
    """Return component -> graph -> placement with the same one for every graph, before any was measured."""
    found: dict[str, dict[str, Placement]] = {}
    for graph in manifest.graphs:
        found.setdefault(graph.component, {})[graph.name] = placement
    return found


def overridden(
    graph: Graph, measured: Mapping[str, Mapping[str, Placement]], target: str | None, threads: int | None
) -> Placement:
    """Return how a graph runs: as measured, but on the caller's target and threads where given.

    A target that has the graph in the measured number format keeps the format; one that has not runs it in float32.

    Raises:
        UnknownNameError: the bundle has no variant of the graph for that target.
    """
    placement = measured[graph.component][graph.name]
    if threads is not None:
        placement = replace(placement, threads=threads)
    if target is None or target == placement.target:
        return placement
    formats = {variant.format for variant in graph.variants if variant.target == target}
    if not formats:
        raise UnknownNameError(
            f"target for component {graph.component!r}", target, {variant.target for variant in graph.variants}
        )
    kept = placement.format if placement.format in formats else FLOAT32
    return replace(placement, target=target, format=kept)
