"""The boundary to inference engines: named arrays in, named arrays out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, cast

from numpy.typing import NDArray

from sanderling import lookup
from sanderling.errors import InputError

AnyArray: TypeAlias = NDArray[Any]


def usable_cores() -> int:
    """Return the processor cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@dataclass(frozen=True)
class Span:
    """From where to where the lengths of an input's axes go, or the value of a lever.

    Attributes:
        least: smallest of each.
        usual: what to be fastest at.
        most: largest of each.
    """

    least: tuple[int, ...]
    usual: tuple[int, ...]
    most: tuple[int, ...]

    def __post_init__(self) -> None:
        same = len(self.least) == len(self.usual) == len(self.most)
        ordered = all(0 <= a <= b <= c for a, b, c in zip(self.least, self.usual, self.most, strict=False))
        if not same or not ordered:
            raise InputError(
                f"a span goes from {self.least} over {self.usual} to {self.most}; "
                "expected as many numbers in each, none negative, none falling"
            )


@dataclass(frozen=True)
class Build:
    """How to build an engine that is made for a graph before it runs (TensorRT); other engines need none of it.

    Attributes:
        shapes: input -> lengths of its axes; for every input with an axis known only at run time.
        values: lever -> its values, one number each; for every input that decides shapes.
        precision: "float32", or "float16" where the engine finds that faster.
        workspace_mb: most memory that one layer may use while it runs.
        effort: how long to search for fast kernels, 0 to 5.
        dla_core: which deep learning accelerator of a Jetson to run on; None for its GPU.
    """

    shapes: Mapping[str, Span] = field(default_factory=dict)
    values: Mapping[str, Span] = field(default_factory=dict)
    precision: Literal["float32", "float16"] = "float32"
    workspace_mb: int = 1024
    effort: int = 3
    dla_core: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in {"float32", "float16"}:
            raise InputError(f"precision is {self.precision!r}, expected float32 or float16")
        if self.workspace_mb < 1:
            raise InputError(f"workspace_mb is {self.workspace_mb}, expected at least 1")
        if not 0 <= self.effort <= 5:
            raise InputError(f"effort is {self.effort}, expected 0 to 5")


@dataclass(frozen=True)
class OpenOptions:
    """How to open a graph.

    Attributes:
        threads: worker threads of the engine.
        processor: the engine's own name for where to run, such as "CPU" or "GPU".
        build: for an engine that is built before it runs.
        cache: folder for built engines; the user's own when None.
    """

    threads: int = field(default_factory=usable_cores)
    processor: str = "CPU"
    build: Build = field(default_factory=Build)
    cache: str | None = None

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

    @property
    def processor(self) -> str:
        """Its own name for where it runs unless told otherwise."""
        ...

    @property
    def caution(self) -> str:
        """What has not been shown about it yet, in one clause; "" for nothing."""
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
