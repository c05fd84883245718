"""The contract an architecture fulfils: a checkpoint in, a model split into named parts out.

One file per family in `compile/models/`, named after the `model_type` it serves, exporting one constant::

    ARCHITECTURE = Architecture(model_type="clip", adapt=adapt)

A user's own module needs the same in one small file of theirs: a function `adapt()` that returns an `Adapted`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.spec import ModelSpec

Build = Callable[[ReduceAt | None], nn.Module]
"""Returns a part as a module in eval mode with its weights loaded, reducing its tokens at one site or not at all.

The module's `forward` takes the component's inputs in order and, when it reduces, the lever's int64 scalar last. It
returns the component's outputs in order (one tensor, or a tuple).
"""


@dataclass(frozen=True)
class Part:
    """The source of one component.

    Attributes:
        component: its name in the model's spec.
        build: makes the torch module; called once per graph. None when `graph` is given instead.
        example: one tensor per component input, of batch 2, to trace with.
        bound: largest absolute difference to the source that an engine may show on any output.
        probe: lever settings at which a known engine fault would show, such as the number of heads; compared besides
            full and half.
        graph: a ready ONNX model, for sources that are one.
        relevance: whether the module knows how much its tokens matter to the text, and gives it to its reducer; without
            it, reducers that need the text are refused.
    """

    component: str
    build: Build | None
    example: tuple[Tensor, ...]
    bound: float = 1e-4
    probe: tuple[int, ...] = ()
    graph: bytes = b""
    relevance: bool = False


@dataclass(frozen=True)
class Adapted:
    """A model, split.

    Attributes:
        spec: components, levers and sites; how they connect.
        parts: one per component.
        files: bundle member name -> bytes, such as "tokenizer.json".
        source: digest of configuration and weights; equal digests mean equal models.
    """

    spec: ModelSpec
    parts: tuple[Part, ...]
    source: str
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Architecture:
    """A family of models.

    Attributes:
        model_type: as in Hugging Face's config.json; also the file's name.
        adapt: checkpoint folder and its parsed config.json -> the split model. Raises `CheckpointError`.
    """

    model_type: str
    adapt: Callable[[Path, dict[str, Any]], Adapted]
