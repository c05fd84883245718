"""OpenVINO on the processor's own cores, or on another Intel processor that it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from sanderling.engine import AnyArray, Engine, OpenOptions
from sanderling.errors import MissingExtraError, UnsupportedError
from sanderling.targets import OperatorTime, OperatorTimes, Refusal, Target
from sanderling.targets.rules.operators import parse, refusals_by_trial
from sanderling.targets.rules.square_transposes import hide_square_transposes


@dataclass(frozen=True)
class OpenVino:
    """The target for `pip install openvino`."""

    name: str = "openvino"
    processor: str = "CPU"
    caution: str = ""

    def missing(self) -> str | None:
        """Return what to install, or None when OpenVINO is here."""
        try:
            _library()
        except MissingExtraError as error:
            return str(error)
        return None

    def open(self, graph: bytes, options: OpenOptions) -> Engine:
        """Return a compiled model with one request for a serialised ONNX model.

        Raises:
            MissingExtraError: OpenVINO is not installed.
            UnsupportedError: it has no such processor here, or cannot run the graph on it.
        """
        return OpenVinoEngine(_compiled(graph, options, _settings(options)))

    def profile_operators(
        self, graph: bytes, options: OpenOptions, feed: Mapping[str, AnyArray], calls: int
    ) -> OperatorTimes:
        """Return what every operator takes, from the counters of a request compiled with PERF_COUNT.

        Raises:
            MissingExtraError: OpenVINO is not installed.
            UnsupportedError: it has no such processor here, or cannot run the graph on it.
        """
        if options.processor != self.processor:
            raise UnsupportedError(
                f"what openvino's operator counters say on {options.processor!r} is not known; they are read on "
                f"{self.processor} only"
            )
        engine = OpenVinoEngine(_compiled(graph, options, _settings(options) | {"PERF_COUNT": True}))
        for _ in range(_WARM_UP):
            engine.run(feed)
        warm = engine.counters()
        begun = perf_counter()
        for _ in range(calls):
            engine.run(feed)
        call_ms = (perf_counter() - begun) / calls * 1e3
        rows = [
            # A counter is the mean since the graph was compiled (CPU, 2026.4), so the warm-up is taken out again.
            OperatorTime(*key, max(0.0, (ms * (_WARM_UP + calls) - warm.get(key, 0.0) * _WARM_UP) / calls))
            for key, ms in engine.counters().items()
        ]
        return OperatorTimes(call_ms, tuple(sorted(rows, key=lambda row: -row.ms)))

    def refusals(self, graph: bytes) -> tuple[Refusal, ...]:
        """Return the operators that nobody defines; if there are none, what the engine says on opening the graph."""
        return refusals_by_trial(graph, lambda model: self.open(model, OpenOptions(threads=1)), _DOMAINS)

    def lower(self, graph: bytes) -> bytes:
        """Return the graph with every attention in a form that the CPU plugin computes rightly.

        A graph that needs no change comes back byte for byte.
        """
        lowered, hidden = hide_square_transposes(parse(graph))
        return lowered.SerializeToString(deterministic=True) if hidden else graph


class OpenVinoEngine:
    """A compiled model and its one request; outputs are copied out, so that no later run touches them."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._outputs = [output.get_any_name() for output in compiled.outputs]
        self._read = frozenset(name for port in compiled.inputs for name in port.get_names())

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Return every output by name. The engine reads the inputs in place until the call returns."""
        # An input that no node reads, such as the relevance that one reducer needs and another does not, is in the
        # graph and not in the compiled model.
        read = {name: array for name, array in inputs.items() if name in self._read}
        results = self._request.infer(read, share_inputs=True, share_outputs=False)
        return dict(zip(self._outputs, results.values(), strict=True))

    def counters(self) -> dict[tuple[str, str], float]:
        """Return (operator, node) -> mean milliseconds of everything that ran; needs PERF_COUNT."""
        return {
            (info.node_type, info.node_name): info.real_time.total_seconds() * 1e3
            for info in self._request.profiling_info
            if info.status == info.Status.EXECUTED
        }


TARGET: Target = OpenVino()

_DOMAINS = frozenset({"com.microsoft", "org.openvinotoolkit"})
"""Operators beyond ONNX's own of which OpenVINO reads some; it checks their names when it opens the graph."""


_WARM_UP = 2
"""Calls that a profile leaves out."""


def _compiled(graph: bytes, options: OpenOptions, settings: dict[str, Any]) -> Any:
    """Return a compiled model for the processor asked for and no other."""
    core = _library().Core()
    _check_processor(core.available_devices, options.processor)
    try:
        model = _with_ties_by_place(core.read_model(graph))
        return core.compile_model(model, options.processor, settings)
    except RuntimeError as error:
        said = _said(str(error))
        raise UnsupportedError(f"openvino cannot run this graph on {options.processor}: {said}") from error


def _library() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", "the target openvino") from error
    return openvino


def _with_ties_by_place(model: Any) -> Any:
    """Return the model with every TopK in the order that ONNX defines: of equal values the earlier place comes first.

    OpenVINO reads ONNX's TopK as one that may take either (2026.4), and which tokens a reducer keeps would depend on
    it.
    Its stable sort takes n * k steps, so one that sorts the places another TopK found, all different, stays as it is.
    """
    for node in model.get_ops():
        if node.get_type_name() == "TopK" and not _of_places(node):
            node.set_attribute("stable", True)
    return model


def _of_places(node: Any) -> bool:
    """Return whether a TopK orders the places that another one found."""
    source = node.input_value(0)
    while source.get_node().get_type_name() in ("Convert", "Negative"):
        source = source.get_node().input_value(0)
    return bool(source.get_node().get_type_name() == "TopK" and source.get_index() == 1)


def _check_processor(present: list[str], processor: str) -> None:
    """Refuse what is not here; "AUTO" and "HETERO" too, because they choose in silence."""
    # Several processors of a kind are listed as GPU.0, GPU.1; GPU alone means the first of them.
    if processor not in present and f"{processor}.0" not in present:
        raise UnsupportedError(f"openvino has no processor {processor!r} here; it has: {', '.join(present)}")


def _settings(options: OpenOptions) -> dict[str, Any]:
    settings: dict[str, Any] = {
        # Where the processor has bfloat16 instructions the default drops to them, and outputs move by about 1 %.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    if options.processor == "CPU":
        settings["INFERENCE_NUM_THREADS"] = options.threads
    return settings


def _said(report: str) -> str:
    """Return an engine's report without the places in its own source files."""
    lines = [line.strip() for line in report.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("Exception from", "Check '")))
