"""Finds where a converted graph loses what the float32 graph computes: tensor by tensor, in the graph's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from sanderling.compile.intermediates import run_inside
from sanderling.compile.number_format import Feeds
from sanderling.compile.onnx_graph import layers, prepared
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
        added: noise over signal power that was not there yet in any tensor it was computed from.
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
    measured = _measure(source, converted, names, feeds, targets)
    rows = _rows(source, measured)
    first = next((row for row in rows if row.cosine < bound), None)
    return Located(rows, first, () if first is None else _suggested(source, rows, first, most))


@dataclass
class _Sums:
    """What is known of one tensor: cosine per sample, and power of signal and noise over all."""

    cosines: list[float]
    signal: float = 0.0
    noise: float = 0.0

    def add(self, wanted: AnyArray, got: AnyArray, name: str) -> None:
        """Take in one sample."""
        if wanted.shape != got.shape:
            raise InputError(f"tensor {name!r} is {list(wanted.shape)} in one graph and {list(got.shape)} in the other")
        x, y = wanted.astype(np.float64).ravel(), got.astype(np.float64).ravel()
        floats = np.issubdtype(wanted.dtype, np.floating)
        self.cosines.append(_cosine(x, y) if floats else float(np.isin(x, y).mean()))
        self.signal += float(x @ x)
        self.noise += float((x - y) @ (x - y))

    @property
    def ratio(self) -> float:
        """Noise over signal power."""
        return self.noise / self.signal if self.signal else float(np.inf if self.noise else 0)


def _common(source: ModelProto, converted: ModelProto) -> tuple[str, ...]:
    """Return the tensors to compare, in the order of the source graph."""
    there = {name for node in converted.graph.node for name in node.output}
    outputs = {value.name for value in source.graph.output}
    return tuple(
        name
        for node in source.graph.node
        for name in node.output
        if name in there and (name in outputs or node.op_type in COMPARED)
    )


def _measure(
    source: ModelProto, converted: ModelProto, names: Sequence[str], feeds: Feeds, targets: tuple[str, str]
) -> dict[str, _Sums]:
    sums = {name: _Sums([]) for name in names}
    runs = (run_inside(model, names, feeds, target) for model, target in zip((source, converted), targets, strict=True))
    for wanted, got in zip(*runs, strict=True):
        for name in names:
            sums[name].add(wanted[name], got[name], name)
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
                known = max((measured[earlier].ratio for earlier in behind[name]), default=0.0)
                added = max(0.0, sums.ratio - known) if np.isfinite(sums.ratio) else sums.ratio
                rows.append(Row(name, node.name, node.op_type, sums.cosines[worst], snr_db, worst, added))
    return tuple(rows)


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
