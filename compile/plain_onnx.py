"""A plain ONNX file as a model of one component with no levers."""

from __future__ import annotations

import hashlib

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, ValueInfoProto
from sanderling.compile.architecture import Adapted, Part
from sanderling.errors import CheckpointError
from sanderling.spec import ArrayInput, Axis, Component, ModelSpec, TensorSpec

FREE_LENGTH = 2
"""Length given to a free axis in made-up inputs."""


def adapt_onnx(data: bytes, name: str) -> Adapted:
    """Return a serialised ONNX model as a split model.

    Args:
        data: the file's bytes.
        name: what to call the model.

    Raises:
        CheckpointError: not an ONNX model, or one with inputs that are not plain tensors or weights outside the file.
    """
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise CheckpointError(f"{name}.onnx is not a valid ONNX model: {error}") from error
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
        raise CheckpointError(f"{name}.onnx: {value.name!r} is not a tensor; sequences and maps cannot be inputs or outputs")
    tensor = value.type.tensor_type
    if tensor.elem_type in (TensorProto.UNDEFINED, TensorProto.STRING):
        raise CheckpointError(f"{name}.onnx: {value.name!r} holds {TensorProto.DataType.Name(tensor.elem_type)}, expected numbers")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    axes: list[Axis] = []
    for number, dimension in enumerate(tensor.shape.dim):
        fixed = dimension.HasField("dim_value") and dimension.dim_value > 0
        axes.append(dimension.dim_value if fixed else dimension.dim_param or f"{value.name}_axis_{number}")
    return TensorSpec(value.name, dtype, tuple(axes))


def _example(tensor: TensorSpec) -> torch.Tensor:
    shape = [FREE_LENGTH if isinstance(axis, str) else axis for axis in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))
