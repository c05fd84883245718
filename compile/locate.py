"""Finds where a converted graph loses what the float32 graph computes: tensor by tensor, in the graph's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from sanderling.compile.intermediates import run_inside
from sanderling.compile.number_format import Feeds
from sanderling.compile.onnx_graph import constants, gemms_as_products, layers, prepared, values
from sanderling.engine import AnyArray
from sanderling.errors import InputError

COMPARED = ("MatMul", "Gemm", "Conv", "Add", "LayerNormalization", "Softmax", "Gelu", "TopK")
"""Operators whose results are compared, besides the graph's outputs."""


@dataclass(frozen=True)
class Row:
    """How far one tensor is from the float32 graph's.

    Attributes:
        tensor: its name, the same in both graphs.
        node: the node of the float32 graph that writes it.
        operator: that node's ONNX operator.
        cosine: of the worst sample. For whole numbers, such as the places that TopK chose, the share that is in both.
        snr_db: signal over noise power of all samples, in decibel; infinite when nothing differs.
        worst_sample: number of the feed with the least cosine.
        added: noise over signal power that is this node's own. For a layer, its result against what its float32 weights
            make of the same input; for others, what was not there yet in the tensors it is computed from.
    """

    tensor: str
    node: str
    operator: str
    cosine: float
    snr_db: float
    worst_sample: int
    added: float


@dataclass(frozen=True)
class Located:
    """Where the loss is.

    Attributes:
        rows: every compared tensor, in the order of the float32 graph.
        first: the first row below the bound, or None when all keep it.
        exclude: patterns for a format's `exclude`: layers at or before `first`, the one that adds most noise first.
    """

    rows: tuple[Row, ...]
    first: Row | None
    exclude: tuple[str, ...]


def locate(
    before: bytes,
    after: bytes,
    feeds: Feeds,
    bound: float = 0.999,
    targets: tuple[str, str] = ("onnxruntime", "onnxruntime"),
    most: int = 3,
) -> Located:
    """Return where the second graph drifts from the first.

    Where a graph chooses tokens, a small error may choose others, and behind that tensors of different tokens meet: the
    choice is then the first to drift. Feeds at the lever's maximum, where nothing is left out, show the layers alone.

    Args:
        before: the float32 graph, a serialised ONNX model.
        after: the same graph converted, or the same graph for another target; tensors keep their names.
        feeds: inputs of both; every feed counts as one sample.
        bound: cosine that a tensor of any sample has to keep.
        targets: names of the targets that run them.
        most: patterns to suggest at most.

    Raises:
        InputError: no feeds, or no tensor that both graphs have.
        UnsupportedError: a target cannot run its graph.
    """
    if not feeds:
        raise InputError("no samples to compare with; give at least one")
    source, converted = prepared(before), prepared(after)
    names = _common(source, converted)
    if not names:
        raise InputError("the graphs have no tensor in common to compare; give a graph and what was made from it")
    measured = _measure(source, converted, names, _float_layers(source, converted), feeds, targets)
    rows = _rows(source, measured)
    first = next((row for row in rows if row.cosine < bound), None)
    return Located(rows, first, () if first is None else _suggested(source, rows, first, most))


@dataclass
class _Sums:
    """What is known of one tensor: cosine per sample, and power of signal and noise over all."""

    cosines: list[float] = field(default_factory=list)
    signal: float = 0.0
    noise: float = 0.0
    own_noise: float | None = None

    def add(self, wanted: AnyArray, got: AnyArray, name: str) -> None:
        """Take in one sample."""
        if wanted.shape != got.shape:
            raise InputError(f"tensor {name!r} is {list(wanted.shape)} in one graph and {list(got.shape)} in the other")
        x, y = wanted.astype(np.float64).ravel(), got.astype(np.float64).ravel()
        floats = np.issubdtype(wanted.dtype, np.floating)
        self.cosines.append(_cosine(x, y) if floats else float(np.isin(x, y).mean()))
        self.signal += float(x @ x)
        self.noise += float((x - y) @ (x - y))

    def add_own(self, wanted: NDArray[np.float64], got: AnyArray) -> None:
        """Take in what a float32 layer makes of one sample's input, and what the converted one makes of it."""
        self.own_noise = (self.own_noise or 0.0) + float(((wanted - got) ** 2).sum())

    @property
    def ratio(self) -> float:
        """Noise over signal power."""
        return self.over_signal(self.noise)

    def over_signal(self, noise: float) -> float:
        """Return a noise power in units of the signal's."""
        return noise / self.signal if self.signal else float(np.inf if noise else 0)


def _common(source: ModelProto, converted: ModelProto) -> tuple[str, ...]:
    """Return the tensors to compare, in the order of the source graph."""
    makers = {name: node for node in converted.graph.node for name in node.output}
    outputs = {value.name for value in source.graph.output}
    return tuple(
        name
        for node in source.graph.node
        for name in node.output
        if name in makers and (name in outputs or node.op_type in COMPARED) and not _smoothed(node, makers[name])
    )


def _smoothed(node: NodeProto, converted: NodeProto) -> bool:
    """Return whether a normalisation has scales of its own now, which the layers behind it make up for."""
    return node.op_type == "LayerNormalization" and list(node.input[1:]) != list(converted.input[1:])


@dataclass(frozen=True)
class _FloatLayer:
    """A product with its float32 weight, to compute from the converted graph's own input."""

    activation: str
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def of(self, x: AnyArray) -> NDArray[np.float64]:
        """Return the layer's result."""
        result: NDArray[np.float64] = x.astype(np.float64) @ self.weight + self.bias
        return result


def _float_layers(source: ModelProto, converted: ModelProto) -> dict[str, _FloatLayer]:
    """Return output -> layer, of products whose input means the same in both graphs."""
    products = gemms_as_products(source, layers(source))
    there, makers = constants(products), {name: node for node in converted.graph.node for name in node.output}
    changed = {
        node.output[0]
        for node in source.graph.node
        if node.output[0] in makers and _smoothed(node, makers[node.output[0]])
    }
    known = (set(makers) | {value.name for value in converted.graph.input}) - changed
    added = {
        node.input[0]: node for node in products.graph.node if node.op_type == "Add" and node.name.endswith(".bias")
    }
    found = {}
    for layer in layers(products):
        if layer.operator == "MatMul" and layer.activation in known:
            add = added.get(layer.output) if layer.output.endswith(".product") else None
            if add is None or add.input[1] in there:
                bias = np.zeros(1) if add is None else values(there[add.input[1]]).astype(np.float64)
                output = layer.output if add is None else add.output[0]
                weight = values(there[layer.weight]).astype(np.float64)
                found[output] = _FloatLayer(layer.activation, weight, bias)
    return found


def _measure(
    source: ModelProto,
    converted: ModelProto,
    names: Sequence[str],
    floats: Mapping[str, _FloatLayer],
    feeds: Feeds,
    targets: tuple[str, str],
) -> dict[str, _Sums]:
    sums = {name: _Sums() for name in names}
    inputs = [floats[name].activation for name in names if name in floats]
    before = run_inside(source, names, feeds, targets[0])
    after = run_inside(converted, [*names, *inputs], feeds, targets[1])
    for wanted, got in zip(before, after, strict=True):
        for name in names:
            sums[name].add(wanted[name], got[name], name)
            if name in floats:
                sums[name].add_own(floats[name].of(got[floats[name].activation]), got[name])
    return sums


def _cosine(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norms if norms else float(np.array_equal(x, y))


def _rows(source: ModelProto, measured: Mapping[str, _Sums]) -> tuple[Row, ...]:
    behind = _nearest(source, set(measured))
    rows = []
    for node in source.graph.node:
        for name in node.output:
            if name in measured:
                sums = measured[name]
                worst = int(np.argmin(sums.cosines))
                snr_db = float(-10 * np.log10(sums.ratio)) if sums.ratio else float(np.inf)
                added = _added(sums, [measured[earlier] for earlier in behind[name]])
                rows.append(Row(name, node.name, node.op_type, sums.cosines[worst], snr_db, worst, added))
    return tuple(rows)


def _added(sums: _Sums, behind: Sequence[_Sums]) -> float:
    if sums.own_noise is not None:
        return sums.over_signal(sums.own_noise)
    known = max((earlier.ratio for earlier in behind), default=0.0)
    return max(0.0, sums.ratio - known) if np.isfinite(sums.ratio) else sums.ratio


def _nearest(source: ModelProto, compared: set[str]) -> dict[str, set[str]]:
    """Return tensor -> the compared tensors it is computed from, with no other compared tensor between."""
    found: dict[str, set[str]] = {}
    for node in source.graph.node:
        before = set(chain.from_iterable({n} if n in compared else found.get(n, set()) for n in node.input))
        found.update(dict.fromkeys(node.output, before))
    return found


def _suggested(source: ModelProto, rows: Sequence[Row], first: Row, most: int) -> tuple[str, ...]:
    """Return patterns of the layers that the first drifting tensor hangs on, the noisiest first."""
    makers = {name: node for node in source.graph.node for name in node.output}
    waiting, needed = [first.tensor], set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in needed:
            needed.add(node.name)
            waiting += node.input
    known = {layer.node for layer in layers(source)} & needed
    noisy = sorted((r for r in rows if r.node in known and r.added > 0), key=lambda row: row.added, reverse=True)
    return tuple(escape(row.node) for row in noisy[:most])
