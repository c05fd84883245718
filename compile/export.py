"""From a torch module to one ONNX graph, through torch.export."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sanderling.errors import UnsupportedError
from sanderling.spec import Component

OPSET = 20
"""ONNX operator set that every supported engine reads."""


def export(module: nn.Module, component: Component, example: Sequence[Tensor], levers: dict[str, int]) -> bytes:
    """Return a component as a serialised ONNX model.

    Args:
        module: takes the component's inputs in order, then one int64 scalar per lever.
        component: its inputs and outputs by name; named axes stay free in the graph.
        example: one tensor per input, to trace with.
        levers: lever name -> setting to trace with; each becomes a scalar input of that name.

    Raises:
        UnsupportedError: the module cannot be exported; the message names the component and the cause.
    """
    scalars = [torch.tensor(setting) for setting in levers.values()]
    names = [tensor.name for tensor in component.inputs] + list(levers)
    free = [_free_axes(tensor.shape) for tensor in component.inputs] + [None] * len(scalars)
    try:
        with _quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                # Copies, because one tensor given for two inputs would be traced as one input.
                (*(tensor.clone() for tensor in example), *scalars),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=names,
                output_names=[tensor.name for tensor in component.outputs],
                dynamic_shapes=tuple(free),
            )
    except torch.onnx.OnnxExporterError as error:
        raise UnsupportedError(
            f"component {component.name!r} cannot be exported: {_cause(error)}; "
            "keep Python control flow and shapes independent of tensor values"
        ) from error
    if program is None:
        raise UnsupportedError(f"component {component.name!r}: the exporter returned no program")
    serialised: bytes = program.model_proto.SerializeToString(deterministic=True)
    return serialised


def _free_axes(shape: tuple[int | str, ...]) -> dict[int, Any]:
    return {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(shape) if isinstance(axis, str)}


def _cause(error: BaseException) -> str:
    """Return the first line of the innermost error; the exporter wraps causes in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress notes and deprecation warnings about its own code off the user's screen."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
