"""TensorRT on an NVIDIA GPU, a Jetson's or a desktop's.

An engine is built for one GPU, one driver and one TensorRT, so the bundle carries the ONNX graph and how to build it,
and the first opening on the device builds and keeps the engine.

What runs on the host, the rule check and the lowering, is tested. What runs on the device has never run on a real GPU:
its calls were checked against the names in TensorRT's Python bindings and run on a stand-in.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanderling import hardware
from sanderling.engine import Engine, OpenOptions
from sanderling.errors import MissingExtraError, UnsupportedError
from sanderling.targets import Refusal, Target
from sanderling.targets.nvidia.builder import build_engine, version_of
from sanderling.targets.nvidia.driver import Driver, library
from sanderling.targets.nvidia.engine_cache import EngineCache, Found
from sanderling.targets.nvidia.runner import TensorRtEngine
from sanderling.targets.rules import tensorrt as rules
from sanderling.targets.rules.graph_facts import graphs, setting
from sanderling.targets.rules.operators import parse

_OLDEST = (10, 0)
"""Oldest version whose names are used here; older ones bind 64-bit integers as 32-bit ones."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorRt:
    """The target for JetPack's TensorRT and for `pip install tensorrt`."""

    name: str = "tensorrt"
    processor: str = "CUDA"
    caution: str = "has never run on a real GPU; see targets/tensorrt.py"

    def missing(self) -> str | None:
        """Return what to install, or None when TensorRT and an NVIDIA driver are here."""
        try:
            _tensorrt()
            library()
        except (MissingExtraError, UnsupportedError) as error:
            return str(error)
        return None

    def open(self, graph: bytes, options: OpenOptions) -> Engine:
        """Return an engine for a serialised ONNX model, from the cache when it was built here before.

        Raises:
            MissingExtraError: TensorRT is not installed.
            UnsupportedError: there is no GPU, or TensorRT cannot build the graph or its profile is not complete.
        """
        module = _tensorrt()
        if options.processor != self.processor:
            raise UnsupportedError(f"tensorrt has no processor {options.processor!r} here; it has: {self.processor}")
        if version_of(module) < _OLDEST:
            raise UnsupportedError(f"TensorRT {module.__version__} is older than 10.0, the oldest this target runs on")
        memory = Driver()
        engine = opened(module, graph, options, hardware_here(module, memory))
        return TensorRtEngine(module, engine, memory, options.build)

    def refusals(self, graph: bytes) -> tuple[Refusal, ...]:
        """Return what TensorRT's parser does not take, by its published rules; needs no TensorRT."""
        return rules.refusals(parse(graph))

    def lower(self, graph: bytes) -> bytes:
        """Return the graph without `reduction="none"` on ScatterND, its default, which the parser refuses.

        A graph that needs no change comes back byte for byte.
        """
        model = parse(graph)
        changed = False
        for inner in graphs(model.graph):
            for node in inner.node:
                if node.op_type == "ScatterND" and setting(node, "reduction", "") == "none":
                    del node.attribute[:]  # it has no other
                    changed = True
        return model.SerializeToString(deterministic=True) if changed else graph


TARGET: Target = TensorRt()


def hardware_here(module: Any, driver: Driver) -> dict[str, str]:
    """Return everything that an engine depends on besides its graph: name -> value."""
    return {
        "compute capability": driver.compute_capability(),
        "driver": hardware.nvidia_driver() or driver.version(),
        "TensorRT": module.__version__,
        "power mode": hardware.power_mode() or "none",
    }


def opened(module: Any, graph: bytes, options: OpenOptions, here: dict[str, str]) -> Any:
    """Return an ICudaEngine, kept or newly built; a kept one that cannot be used is told in the log with its reason."""
    cache = EngineCache(None if options.cache is None else Path(options.cache))
    runtime = module.Runtime(module.Logger(module.Logger.ERROR))
    found = cache.find(graph, options.build, here)
    if found.engine is not None:
        engine = runtime.deserialize_cuda_engine(found.engine)
        if engine is not None:
            return engine
        found = Found(reason="TensorRT cannot read it", build_s=found.build_s)
    if found.reason:
        took = "" if found.build_s is None else f"; the last build took {found.build_s:.0f} s"
        _log.warning("the kept engine is stale: %s. Building it again%s", found.reason, took)
    start = time.perf_counter()
    plan = build_engine(module, graph, options.build)
    cache.keep(graph, options.build, here, plan, time.perf_counter() - start)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise UnsupportedError(
            "tensorrt cannot read the engine that it has just built; its reasons are on the error output"
        )
    return engine


def _tensorrt() -> Any:
    purpose = "the target tensorrt"
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        raise MissingExtraError("tensorrt (JetPack has it on a Jetson)", "tensorrt", purpose) from error
    except ImportError as error:  # its bindings are here and the libraries behind them are not
        raise MissingExtraError(f"TensorRT's libraries ({error})", "tensorrt", purpose) from error
    return tensorrt
