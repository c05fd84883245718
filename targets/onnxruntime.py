"""ONNX Runtime on the processor's own cores, or on another processor that the installed build has."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from sanderling.engine import AnyArray, Engine, OpenOptions
from sanderling.errors import MissingExtraError, UnsupportedError
from sanderling.targets import OperatorTime, OperatorTimes, Refusal, Target
from sanderling.targets.rules.operators import refusals_by_trial

_PROVIDER = "ExecutionProvider"
"""How ONNX Runtime ends the names of processors: "CPU" is "CPUExecutionProvider"."""

_DOMAINS = frozenset({"com.microsoft"})
"""Operators that ONNX Runtime adds to ONNX's own; it checks their names when it opens the graph."""

_WARM_UP = 2
"""Calls that the trace of a profile leaves out."""

_KERNEL = "_kernel_time"
"""How the trace ends the names of nodes that ran."""

_CONTROL = frozenset({"If", "Loop", "Scan"})
"""Operators that other nodes run inside of; the trace counts those twice."""

_QUIET = 4
"""Log level: what matters comes as an exception, and lines of its own would mix with our output."""


@dataclass(frozen=True)
class OnnxRuntime:
    """The target for `pip install onnxruntime` and its builds for other processors."""

    name: str = "onnxruntime"
    processor: str = "CPU"
    caution: str = ""

    def missing(self) -> str | None:
        """Return what to install, or None when ONNX Runtime is here."""
        try:
            _library()
        except MissingExtraError as error:
            return str(error)
        return None

    def open(self, graph: bytes, options: OpenOptions) -> Engine:
        """Return a session for a serialised ONNX model.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
            UnsupportedError: it has no such processor here, or cannot run the graph on it.
        """
        library = _library()
        return OnnxRuntimeEngine(_session(library, graph, options, _settings(library, options)))

    def profile_operators(
        self, graph: bytes, options: OpenOptions, feed: Mapping[str, AnyArray], calls: int
    ) -> OperatorTimes:
        """Return what every operator takes, from the trace that a session writes when its profiling is on.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
            UnsupportedError: it has no such processor here, or cannot run the graph on it.
        """
        library = _library()
        settings = _settings(library, options)
        settings.enable_profiling = True
        with tempfile.TemporaryDirectory() as folder:
            settings.profile_file_prefix = str(Path(folder) / "trace")
            engine = OnnxRuntimeEngine(session := _session(library, graph, options, settings))
            for _ in range(_WARM_UP):
                engine.run(feed)
            begun = perf_counter()
            for _ in range(calls):
                engine.run(feed)
            call_ms = (perf_counter() - begun) / calls * 1e3
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return OperatorTimes(call_ms, _rows(events, calls))

    def refusals(self, graph: bytes) -> tuple[Refusal, ...]:
        """Return the operators that nobody defines; if there are none, what the engine says on opening the graph."""
        return refusals_by_trial(graph, lambda model: self.open(model, OpenOptions(threads=1)), _DOMAINS)

    def lower(self, graph: bytes) -> bytes:
        """Return the graph as it is.

        ONNX is what this engine reads and defines best: it fuses attention, normalisation and activations itself when
        it opens the graph, for the instruction set it finds then, and no form that it computes wrongly is known.
        """
        return graph


class OnnxRuntimeEngine:
    """An open session; its outputs belong to the caller and no later run touches them."""

    def __init__(self, session: Any) -> None:
        # It keeps the serialised model for its fallback, which is off: as many bytes again as there are weights.
        session._model_bytes = None
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Return every output by name."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


TARGET: Target = OnnxRuntime()


def _library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnxruntime", "the target onnxruntime") from error
    return onnxruntime


def _provider(library: Any, processor: str) -> str:
    """Return the full name of a processor that is here."""
    present = library.get_available_providers()
    if f"{processor}{_PROVIDER}" not in present:
        names = ", ".join(sorted(provider.removesuffix(_PROVIDER) for provider in present))
        raise UnsupportedError(f"onnxruntime has no processor {processor!r} here; it has: {names}")
    return f"{processor}{_PROVIDER}"


def _session(library: Any, graph: bytes, options: OpenOptions, settings: Any) -> Any:
    """Return an open session that runs on the processor asked for and on no other."""
    provider = _provider(library, options.processor)
    state = library.capi.onnxruntime_pybind11_state
    refused = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
    )
    try:
        # With its fallback on, a processor that cannot be started is replaced by the CPU.
        session = library.InferenceSession(graph, settings, providers=[provider], enable_fallback=0)
    except refused as error:
        raise UnsupportedError(f"onnxruntime cannot run this graph on {options.processor}: {error}") from error
    if session.get_providers()[0] != provider:
        raise UnsupportedError(f"onnxruntime could not start {options.processor!r}; check its driver and libraries")
    return session


def _rows(events: Sequence[Mapping[str, Any]], calls: int) -> tuple[OperatorTime, ...]:
    """Return the mean milliseconds of every node over the last calls of a trace, whose times are microseconds."""
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    nodes = [event for event in events if event["cat"] == "Node" and event["name"].endswith(_KERNEL)]
    spent: dict[tuple[str, str], float] = {}
    for event, own_us in _exclusive(node for node in nodes if node["ts"] >= runs[-calls]):
        key = event["args"]["op_name"], event["name"].removesuffix(_KERNEL)
        spent[key] = spent.get(key, 0.0) + own_us / calls / 1e3
    rows = [OperatorTime(operator, node, ms) for (operator, node), ms in spent.items()]
    return tuple(sorted(rows, key=lambda row: -row.ms))


def _exclusive(nodes: Iterator[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], float]]:
    """Return every node with its own microseconds: a branch or loop less the nodes that ran inside it."""
    found: list[list[Any]] = []
    around: list[int] = []
    for node in sorted(nodes, key=lambda node: (node["ts"], -node["dur"])):
        while around and found[around[-1]][0]["ts"] + found[around[-1]][0]["dur"] < node["ts"] + node["dur"]:
            around.pop()
        if around:
            found[around[-1]][1] -= node["dur"]
        if node["args"]["op_name"] in _CONTROL:
            around.append(len(found))
        found.append([node, float(node["dur"])])
    return [(node, own_us) for node, own_us in found]


def _settings(library: Any, options: OpenOptions) -> Any:
    settings = library.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _QUIET
    # Spinning threads make a 1 ms graph 0.3 ms faster on two idle cores, but then hold a core for 4 of every 5 ms
    # between calls: heat, energy, and the other engine's and the camera's time. On busy cores they are the slower ones.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if options.processor != "CPU":
        # What the processor cannot do is an error here; by default it moves to the CPU in silence.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return settings
