"""Moves activation outliers into weights, so that one int8 range fits all channels (Xiao et al. 2023, SmoothQuant).

Where a LayerNormalization is read by nothing but layers, its output may be divided by any positive s per channel as
long as the layers' weights are multiplied by it: the float graph computes the same. Equation 4 of the paper chooses

    s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)

with X_j channel j of the normalised tokens and W_j the rows of all the weights that read it. s is folded into the
normalisation's own scale and bias, so nothing is added to the graph. Maxima are over all feeds, and a maximum is not
moved by how many tokens a feed has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from sanderling.compile.intermediates import run_inside
from sanderling.compile.number_format import Feeds
from sanderling.compile.onnx_graph import Layer, constants, layers, values
from sanderling.errors import RecipeError
from sanderling.targets.rules.operators import nodes

_SMALLEST = 1e-5
"""Channels quieter than this would be blown up by rounding alone."""

NOTHING_TO_SMOOTH = "smooth needs a LayerNormalization that only layers read; this graph has none, leave smooth at 0"


@dataclass(frozen=True)
class _Group:
    """A normalisation and the layers that read it."""

    norm: NodeProto
    readers: tuple[Layer, ...]


def can_smooth(model: ModelProto) -> bool:
    """Return whether any outlier of the graph can be moved."""
    return next(_groups(model), None) is not None


def smoothed(model: ModelProto, feeds: Feeds, alpha: float) -> ModelProto:
    """Return a graph that computes the same in float, with activation outliers moved into the weights.

    Args:
        model: the graph, as `prepared` returns it; left as it is.
        feeds: inputs of the graph.
        alpha: 0 to 1; the larger, the more is moved.

    Raises:
        RecipeError: there is no normalisation that only layers read.
    """
    groups = list(_groups(model))
    if not groups:
        raise RecipeError(NOTHING_TO_SMOOTH)
    loudest = _channel_maxima(model, [group.norm.output[0] for group in groups], feeds)
    changed = ModelProto()
    changed.CopyFrom(model)
    for group in groups:
        _fold(changed, group, loudest[group.norm.output[0]], alpha)
    return changed


def _groups(model: ModelProto) -> Iterator[_Group]:
    """Yield normalisations over the last axis that only layers read, with these."""
    by_node = {layer.node: layer for layer in layers(model) if layer.operator != "Conv"}
    weights = constants(model)
    outputs = {value.name for value in model.graph.output}
    for norm in model.graph.node:
        if norm.op_type != "LayerNormalization" or norm.input[1] not in weights or norm.output[0] in outputs:
            continue
        readers = [node for node in nodes(model.graph) if norm.output[0] in node.input]
        known = tuple(by_node[node.name] for node in readers if node.name in by_node)
        last = len(weights[norm.input[1]].dims) == 1 and (len(norm.input) < 3 or norm.input[2] in weights)
        if readers and last and len(known) == len(readers):
            yield _Group(norm, known)


def _channel_maxima(model: ModelProto, tensors: Sequence[str], feeds: Feeds) -> dict[str, NDArray[np.float64]]:
    """Return tensor -> largest magnitude per channel of its last axis."""
    found: dict[str, NDArray[np.float64]] = {}
    for inside in run_inside(model, tensors, feeds):
        for name, array in inside.items():
            peak = np.abs(array.reshape(-1, array.shape[-1]).astype(np.float64)).max(axis=0)
            found[name] = np.maximum(found[name], peak) if name in found else peak
    return found


def _fold(model: ModelProto, group: _Group, loudest: NDArray[np.float64], alpha: float) -> None:
    weights = constants(model)
    heaviest = np.max([_row_maxima(values(weights[r.weight]), r.transposed) for r in group.readers], axis=0)
    s = np.maximum(loudest, _SMALLEST) ** alpha / np.maximum(heaviest, _SMALLEST) ** (1 - alpha)
    by_name = {node.name: node for node in model.graph.node}
    norm = by_name[group.norm.name]
    for place in range(1, len(norm.input)):
        # A copy of its own, because exporters give equal scales and biases of many norms one initializer.
        norm.input[place] = _added(model, norm.input[place], norm.name, values(weights[norm.input[place]]) / s)
    for reader in group.readers:
        rows = s if reader.transposed else s[:, None]
        scaled = values(weights[reader.weight]) * rows
        by_name[reader.node].input[1] = _added(model, reader.weight, reader.node, scaled)


def _row_maxima(weight: NDArray[np.float32], transposed: bool) -> NDArray[np.float64]:
    """Return the largest weight of every input channel."""
    peak: NDArray[np.float64] = np.abs(weight.astype(np.float64)).max(axis=0 if transposed else 1)
    return peak


def _added(model: ModelProto, name: str, node: str, array: NDArray[np.float64]) -> str:
    smooth = f"{name}.smooth.{node}"
    model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), smooth))
    return smooth
