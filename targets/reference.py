"""The ONNX project's own evaluator in NumPy: slow, runs anywhere, and defines what is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sanderling.engine import AnyArray, Engine, OpenOptions
from sanderling.errors import MissingExtraError, UnsupportedError
from sanderling.targets import Refusal, Target
from sanderling.targets.rules.operators import parse, refusals_by_trial


@dataclass(frozen=True)
class Reference:
    """The target that others are compared with."""

    name: str = "reference"
    processor: str = "CPU"
    caution: str = ""

    def missing(self) -> str | None:
        """Return what to install, or None when the onnx library is here."""
        try:
            _evaluator()
        except MissingExtraError as error:
            return str(error)
        return None

    def open(self, graph: bytes, options: OpenOptions) -> Engine:
        """Return an evaluator for a serialised ONNX model; threads are NumPy's own, whatever the options say.

        Raises:
            MissingExtraError: the onnx library is not installed.
            UnsupportedError: another processor than the CPU is asked for, or an operator has no definition.
        """
        evaluator = _evaluator()
        if options.processor != "CPU":
            raise UnsupportedError(f"reference has no processor {options.processor!r}; it has: CPU")
        model = parse(graph)
        try:
            return ReferenceEngine(evaluator(model))
        except (RuntimeError, TypeError, ValueError) as error:
            raise UnsupportedError(f"reference cannot run this graph: {error}") from error

    def refusals(self, graph: bytes) -> tuple[Refusal, ...]:
        """Return the operators that nobody defines; if there are none, what the evaluator says on opening the graph."""
        return refusals_by_trial(graph, lambda model: self.open(model, OpenOptions(threads=1)))

    def lower(self, graph: bytes) -> bytes:
        """Return the graph as it is: what the evaluator makes of it is right by definition."""
        return graph


class ReferenceEngine:
    """An evaluator; its outputs are copies, because it may hand an input back as an output."""

    def __init__(self, evaluator: Any) -> None:
        self._evaluator = evaluator

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Return every output by name."""
        results = self._evaluator.run(None, dict(inputs))
        return {name: np.array(result) for name, result in zip(self._evaluator.output_names, results, strict=True)}


TARGET: Target = Reference()


def _evaluator() -> Any:
    try:
        from onnx.reference import ReferenceEvaluator
    except ImportError as error:
        raise MissingExtraError("onnx", "compile", "the target reference") from error
    return ReferenceEvaluator
