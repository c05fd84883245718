"""The boundary to inference engines: named arrays in, named arrays out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, cast

from numpy.typing import NDArray

from sanderling import lookup
from sanderling.errors import InputError

AnyArray: TypeAlias = NDArray[Any]


def usable_cores() -> int:
    """Return the processor cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@dataclass(frozen=True)
class OpenOptions:
    """How to open a graph.

    Attributes:
        threads: worker threads of the engine.
        processor: the engine's own name for where to run, such as "CPU" or "GPU".
    """

    threads: int = field(default_factory=usable_cores)
    processor: str = "CPU"

    def __post_init__(self) -> None:
        if self.threads < 1:  # engines would take 0 for "as many as you like"
            raise InputError(f"threads is {self.threads}, expected at least 1")


class Engine(Protocol):
    """An opened graph. Only sessions and profilers call it."""

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Return every output by name. Input names, shapes and dtypes are the graph's own."""
        ...


class Opener(Protocol):
    """The part of a target that exists on the device."""

    @property
    def name(self) -> str:
        """Its file's name in `targets/`."""
        ...

    def missing(self) -> str | None:
        """Return why this target cannot be used here and what to install, or None when it can."""
        ...

    def open(self, graph: bytes, options: OpenOptions) -> Engine:
        """Return an engine for a serialised ONNX model, as this target's `lower` left it."""
        ...


def opener(target: str) -> Opener:
    """Return the named target.

    Raises:
        UnknownNameError: no file of that name in `targets/`; nothing else is ever imported.
    """
    return cast(Opener, lookup.find("target", target))
