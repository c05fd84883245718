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
"""ONNX operator set that every supported engine reads, when a device does not say otherwise."""


def export(
    module: nn.Module,
    component: Component,
    example: Sequence[Tensor],
    levers: dict[str, int],
    opset: int = OPSET,
) -> bytes:
    """Return a component as a serialised ONNX model.

    Args:
        module: takes the component's inputs in order, then one int64 scalar per lever.
        component: its inputs and outputs by name; named axes stay free in the graph.
        example: one tensor per input, to trace with.
        levers: lever name -> setting to trace with; each becomes a scalar input of that name.
        opset: ONNX operator set to write, such as the highest that a device's engines read.

    Raises:
        UnsupportedError: the module cannot be exported, or not in that operator set; the message names the component
            and the cause.
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
                opset_version=opset,
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
    written = program.model_proto.opset_import[0].version
    if written != opset:  # where it cannot convert, the exporter logs so and leaves the set that it knows
        raise UnsupportedError(
            f"component {component.name!r} can be written in opset {written} and not in {opset}; "
            "choose a device whose engines read that, or replace the operators that are newer"
        )
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
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
