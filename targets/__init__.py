"""Targets: the engines that run graphs. One file each, found by its name; `rules` and `devices` sit beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sanderling.engine import AnyArray, Opener, OpenOptions


@dataclass(frozen=True)
class Refusal:
    """Why a target will not take a graph.

    Attributes:
        operator: ONNX operator type, such as "NonZero".
        node: name of the node in the graph.
        reason: what the target lacks, in one sentence.
        source: the line of Python that the node comes from, such as "model.py:45"; "" when the graph does not say.
        instead: the form that the target takes; "" when we have none.
    """

    operator: str
    node: str
    reason: str
    source: str = ""
    instead: str = ""

    def __str__(self) -> str:
        """Return the refusal as one sentence."""
        written = f" ({self.source})" if self.source else ""
        rewrite = f"; instead, {self.instead}" if self.instead else ""
        return f"operator {self.operator} at node {self.node!r}{written}: {self.reason}{rewrite}"


class Target(Opener, Protocol):
    """An engine family.

    A target is stringent in that: `refusals` names every operator it cannot run before anything is built; `lower` never
    changes what a graph computes; `open` of a lowered graph never falls back to another processor in silence.
    """

    def refusals(self, graph: bytes) -> tuple[Refusal, ...]:
        """Return what keeps a serialised ONNX model from running here; empty when nothing does. Host only."""
        ...

    def lower(self, graph: bytes) -> bytes:
        """Return the ONNX model in the form this engine computes rightly and fast. Host only; needs onnx."""
        ...


@dataclass(frozen=True)
class OperatorTime:
    """One operator of a graph as the engine runs it, after its own fusions.

    Attributes:
        operator: the engine's name for the kind, such as "Gemm".
        node: its name for the one; an engine that splits or fuses nodes makes up names.
        ms: mean of one call of the graph, operators inside its branches and loops not included.
    """

    operator: str
    node: str
    ms: float


@dataclass(frozen=True)
class OperatorTimes:
    """What calls of a graph cost, operator by operator.

    Attributes:
        call_ms: mean of a whole call while the engine's profiler was on, which slows it down a little.
        rows: the dearest first.
    """

    call_ms: float
    rows: tuple[OperatorTime, ...]


@runtime_checkable
class OperatorProfiler(Protocol):
    """A target whose engine has a profiler of its own; a target without one leaves the method out."""

    def profile_operators(
        self, graph: bytes, options: OpenOptions, feed: Mapping[str, AnyArray], calls: int
    ) -> OperatorTimes:
        """Return what every operator of a lowered graph takes, over so many calls on one feed after a warm-up.

        Raises:
            UnsupportedError: the engine cannot run the graph here.
        """
        ...
