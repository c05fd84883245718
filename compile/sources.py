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
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.fingerprint import module_digest
from sanderling.compile.plain_onnx import adapt_onnx
from sanderling.errors import CheckpointError, InputError, RecipeError
from sanderling.spec import ArrayInput, Component, ModelSpec, TensorSpec

Source: TypeAlias = "str | Path | nn.Module | Adapted"

BOUND = 1e-4
"""Largest difference an engine may show on a module's outputs, times their largest value where that is above 1."""


def adapt(source: Source, example_inputs: Mapping[str, Tensor] | None = None) -> Adapted:
    """Return the source as a split model.

    Args:
        source: see the top of this file.
        example_inputs: for an nn.Module: input name -> tensor, in the order of `forward`, first axis the batch.

    Raises:
        CheckpointError: nothing there, or something this cannot read.
        InputError: an nn.Module without example inputs.
    """
    if isinstance(source, nn.Module):
        return adapt_module(source, example_inputs)
    if example_inputs is not None:
        raise InputError("example_inputs go with an nn.Module; other sources describe their inputs themselves")
    if isinstance(source, Adapted):
        return source
    if not isinstance(source, (str, Path)):
        raise InputError(f"the source is {type(source).__name__}, expected a path, an nn.Module or an Adapted")
    path = Path(source)
    if path.is_dir():
        return adapt_folder(path)
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist; give a checkpoint folder, an .onnx file or a .py file with adapt()"
        )
    if path.suffix == ".onnx":
        return adapt_onnx(path)
    if path.suffix == ".py":
        return _adapt_file(path)
    raise CheckpointError(f"{path} is none of a checkpoint folder, an .onnx file and a .py file with adapt()")


def adapt_module(module: nn.Module, example_inputs: Mapping[str, Tensor] | None) -> Adapted:
    """Return a module as one component without levers; outputs are called "output", or "output_0", "output_1", ...

    Args:
        module: any module that takes tensors and returns a tensor or a tuple of tensors; it is put into eval mode.
        example_inputs: input name -> tensor, in the order of `forward`; the first axis is the batch.

    Raises:
        InputError: no example inputs, an example without a batch axis, or other outputs than tensors.
    """
    if not example_inputs:
        raise InputError("an nn.Module needs example_inputs: a tensor for each input name, in the order of forward")
    for name, tensor in example_inputs.items():
        if not isinstance(tensor, Tensor) or tensor.ndim == 0 or tensor.numel() == 0:
            came = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InputError(f"example input {name!r} is {came}, expected a torch tensor whose first axis is the batch")
    # The exporter takes an axis of length 1 for a constant.
    pairs = tuple(torch.cat([t, t])[:2].contiguous() for t in example_inputs.values())
    outputs = _outputs(module.eval(), pairs)
    names = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
    inputs = tuple(_spec(name, tensor) for name, tensor in zip(example_inputs, pairs, strict=True))
    component = Component("model", inputs, tuple(_spec(n, t) for n, t in zip(names, outputs, strict=True)))
    largest = max([1.0, *(float(t.nan_to_num().abs().max()) for t in outputs if t.is_floating_point() and t.numel())])
    spec = ModelSpec(
        name=type(module).__name__,
        inputs=tuple(ArrayInput(i.name, i.dtype, i.shape) for i in inputs),
        components=(component,),
        outputs=tuple(names),
    )
    return Adapted(spec, (Part("model", lambda _: module, pairs, BOUND * largest),), source=module_digest(module))


@contextmanager
def kept_in_mode(source: Source) -> Iterator[None]:
    """Give a module back as it came: compiling needs it in eval mode, and its owner may be training it."""
    modes = {part: part.training for part in source.modules()} if isinstance(source, nn.Module) else {}
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def _outputs(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        returned = module(*inputs)
    outputs = returned if type(returned) is tuple else (returned,)
    for value in outputs:
        if not isinstance(value, Tensor):
            raise InputError(
                f"{type(module).__name__} returned {type(value).__name__}, expected a tensor or a tuple of tensors; "
                "wrap it in a module that picks the tensors to keep"
            )
    return outputs


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    """Return the description of a tensor of batch 2; one of another length on the first axis has no batch."""
    free = tensor.ndim > 0 and tensor.shape[0] == 2
    shape = ("batch", *tensor.shape[1:]) if free else tuple(tensor.shape)
    return TensorSpec(name, str(tensor.dtype).removeprefix("torch."), shape)


def _adapt_file(path: Path) -> Adapted:
    """Run the user's file and call its `adapt()`. Errors inside it stay as they are: they are about the user's code."""
    name = f"sanderling_source_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CheckpointError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with ExitStack() as undo:  # a file that fails half-way must not stay importable
        undo.callback(sys.modules.pop, name, None)
        spec.loader.exec_module(module)
        undo.pop_all()
    function = getattr(module, "adapt", None)
    if not callable(function):
        raise RecipeError(f"{path} has no function adapt(); it must return a sanderling.compile.architecture.Adapted")
    adapted = function()
    if not isinstance(adapted, Adapted):
        raise RecipeError(f"adapt() in {path} returned {type(adapted).__name__}, expected Adapted")
    return adapted
