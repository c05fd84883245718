"""From whatever the user has to a split model.

    a folder       a Hugging Face checkpoint, found by the model_type in its config.json
    a .py file     the user's own model: a function `adapt()` in it returns an `Adapted`
    an .onnx file  runs as it is, with no levers
    an nn.Module   one component with no levers, traced with the example inputs
    an Adapted     as it is
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.fingerprint import module_digest
from sanderling.compile.plain_onnx import adapt_onnx
from sanderling.errors import CheckpointError, InputError, RecipeError
from sanderling.spec import ArrayInput, Component, ModelSpec, TensorSpec
from torch import Tensor, nn

Source: TypeAlias = "str | Path | nn.Module | Adapted"


def adapt(source: Source, example_inputs: Mapping[str, Tensor] | None = None) -> Adapted:
    """Return the source as a split model.

    Args:
        source: see the top of this file.
        example_inputs: for an nn.Module: input name -> tensor, in the order of `forward`, first axis the batch.

    Raises:
        CheckpointError: nothing there, or something this cannot read.
        InputError: an nn.Module without example inputs.
    """
    if isinstance(source, Adapted):
        return source
    if isinstance(source, nn.Module):
        return adapt_module(source, example_inputs)
    path = Path(source)
    if path.is_dir():
        return adapt_folder(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; give a checkpoint folder, an .onnx file or a .py file with adapt()")
    if path.suffix == ".onnx":
        return adapt_onnx(path.read_bytes(), path.stem)
    if path.suffix == ".py":
        return _adapt_file(path)
    raise CheckpointError(f"{path} is none of a checkpoint folder, an .onnx file and a .py file with adapt()")


def adapt_module(module: nn.Module, example_inputs: Mapping[str, Tensor] | None) -> Adapted:
    """Return a module as one component without levers; outputs are called "output", or "output_0", "output_1", ...

    Args:
        module: any module that takes tensors and returns a tensor or a tuple of tensors.
        example_inputs: input name -> tensor, in the order of `forward`; the first axis is the batch.

    Raises:
        InputError: no example inputs, or an example without a batch axis.
    """
    if not example_inputs:
        raise InputError("an nn.Module needs example_inputs: its input names and one tensor each, in the order of forward")
    for name, tensor in example_inputs.items():
        if tensor.ndim == 0:
            raise InputError(f"example input {name!r} is a scalar, expected a tensor whose first axis is the batch")
    pairs = tuple(torch.cat([t, t])[:2].contiguous() for t in example_inputs.values())  # the exporter wants no axis of 1
    with torch.inference_mode():
        returned = module.eval()(*pairs)
    outputs = returned if isinstance(returned, tuple) else (returned,)
    names = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
    inputs = tuple(_spec(name, tensor) for name, tensor in zip(example_inputs, pairs, strict=True))
    component = Component("model", inputs, tuple(_spec(n, t) for n, t in zip(names, outputs, strict=True)))
    spec = ModelSpec(
        name=type(module).__name__,
        inputs=tuple(ArrayInput(i.name, i.dtype, i.shape) for i in inputs),
        components=(component,),
        outputs=tuple(names),
    )
    return Adapted(spec, (Part("model", lambda _: module, pairs),), source=module_digest(module))


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    return TensorSpec(name, str(tensor.dtype).removeprefix("torch."), ("batch", *tensor.shape[1:]))


def _adapt_file(path: Path) -> Adapted:
    """Run the user's file and call its `adapt()`. Errors inside it stay as they are: they are about the user's code."""
    name = f"sanderling_source_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CheckpointError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    function = getattr(module, "adapt", None)
    if not inspect.isfunction(function):
        raise RecipeError(f"{path} has no function adapt(); it must return a sanderling.compile.architecture.Adapted")
    adapted = function()
    if not isinstance(adapted, Adapted):
        raise RecipeError(f"adapt() in {path} returned {type(adapted).__name__}, expected Adapted")
    return adapted
