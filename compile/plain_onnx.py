"""A plain ONNX file as a model of one component with no levers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto, ValueInfoProto

from sanderling.compile.architecture import Adapted, Part
from sanderling.errors import CheckpointError
from sanderling.spec import ArrayInput, Axis, Component, ModelSpec, TensorSpec
from sanderling.weights import ELEMENTS

FREE_LENGTH = 2
"""Length given to a free axis in made-up inputs."""


def adapt_onnx(path: Path) -> Adapted:
    """Return an ONNX file as a split model, with the weights that it keeps in files beside it.

    Args:
        path: of the file; the model is called like it.

    Raises:
        CheckpointError: not an ONNX model, or one with inputs that are not plain tensors or weights that are not there.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        data = model.SerializeToString(deterministic=True)
    except (DecodeError, EncodeError, onnx.checker.ValidationError, ValueError, OSError) as error:
        raise CheckpointError(f"{path.name} is not a valid ONNX model: {error}") from error
    name = path.stem
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_tensor_spec(value, name) for value in model.graph.input if value.name not in weights)
    outputs = tuple(_tensor_spec(value, name) for value in model.graph.output)
    spec = ModelSpec(
        name=name,
        inputs=tuple(ArrayInput(tensor.name, tensor.dtype, tensor.shape) for tensor in inputs),
        components=(Component("model", inputs, outputs),),
        outputs=tuple(tensor.name for tensor in outputs),
    )
    example = tuple(_example(tensor) for tensor in inputs)
    part = Part("model", None, example, bound=1e-3, graph=data)
    return Adapted(spec, (part,), source=hashlib.sha256(data).hexdigest())


def _tensor_spec(value: ValueInfoProto, name: str) -> TensorSpec:
    if not value.type.HasField("tensor_type"):
        raise CheckpointError(f"{name}.onnx: {value.name!r} is not a tensor; sequences and maps cannot be passed")
    tensor = value.type.tensor_type
    dtypes = {element.onnx_type: dtype for dtype, element in ELEMENTS.items() if dtype != "bfloat16"}
    if tensor.elem_type not in dtypes:
        came = TensorProto.DataType.Name(tensor.elem_type)
        raise CheckpointError(f"{name}.onnx: {value.name!r} holds {came}, expected one of {', '.join(dtypes.values())}")
    axes: list[Axis] = []
    for number, dimension in enumerate(tensor.shape.dim):
        fixed = dimension.HasField("dim_value") and dimension.dim_value > 0
        axes.append(dimension.dim_value if fixed else dimension.dim_param or f"{value.name}_axis_{number}")
    return TensorSpec(value.name, dtypes[tensor.elem_type], tuple(axes))


def _example(tensor: TensorSpec) -> torch.Tensor:
    shape = [FREE_LENGTH if isinstance(axis, str) else axis for axis in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))
