"""Takes weights out of an ONNX model, so that a bundle keeps each once; `sanderling.weights.restore` puts them back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import numpy_helper

from sanderling.errors import CheckpointError
from sanderling.manifest import Weight
from sanderling.weights import ELEMENTS

_DTYPES = {element.onnx_type: dtype for dtype, element in ELEMENTS.items()}
_MACHINE_DEPENDENT = {"doc_string", "metadata_props"}  # exporters write stack traces, paths and dates there


def strip(
    model: onnx.ModelProto | bytes, at_least_bytes: int = 1024
) -> tuple[bytes, tuple[Weight, ...], dict[str, bytes]]:
    """Return a model without its large weights and without anything that depends on the machine that exported it.

    Initializers inside the branches of `If`, `Loop` and `Scan`, and of dtypes that NumPy has no name for, stay in the
    graph.

    Args:
        model: serialised or not; it is left as it is.
        at_least_bytes: smaller initializers stay in the graph, where engines fold them.

    Returns:
        The serialised graph; what was taken out, in the graph's order; bundle member name -> raw little-endian bytes.
        Equal models give equal results.

    Raises:
        CheckpointError: the bytes are no ONNX model, its weights are in other files, or a weight's bytes do not fit
            its shape.
    """
    copy = _own_copy(model)
    _refuse_external_data(copy)
    _remove_machine_dependent(copy)
    weights, data = [], {}
    for place in reversed(range(len(copy.graph.initializer))):
        tensor = copy.graph.initializer[place]
        if tensor.data_type not in _DTYPES or _byte_size(tensor) < at_least_bytes:
            continue
        raw = _raw_bytes(tensor)
        weight = Weight(tensor.name, _DTYPES[tensor.data_type], tuple(tensor.dims), _member(raw))
        weights.append(weight)
        data[weight.member] = raw
        del copy.graph.initializer[place]
    return copy.SerializeToString(deterministic=True), tuple(reversed(weights)), dict(sorted(data.items()))


def _own_copy(model: onnx.ModelProto | bytes) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    if isinstance(model, onnx.ModelProto):
        copy.CopyFrom(model)
        return copy
    try:
        copy.ParseFromString(model)
    except DecodeError as error:
        raise CheckpointError(f"these {len(model):,} bytes are no ONNX model: {error}; export it again") from error
    return copy


def _refuse_external_data(model: onnx.ModelProto) -> None:
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL:
            raise CheckpointError(
                f"the bytes of weight {message.name!r} are in another file; load the model with onnx.load(path), "
                "which reads them, or save it with save_as_external_data=False"
            )


def _remove_machine_dependent(model: onnx.ModelProto) -> None:
    for message in _messages(model):
        for field, _ in message.ListFields():
            if field.name in _MACHINE_DEPENDENT:
                message.ClearField(field.name)


def _messages(message: Message) -> Iterator[Message]:
    """Yield a message and every message inside it, however deep."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _messages(part)


def _raw_bytes(tensor: onnx.TensorProto) -> bytes:
    """Return a tensor's elements as little-endian bytes, whichever of its fields holds them."""
    raw = tensor.raw_data if tensor.HasField("raw_data") else _array_bytes(tensor)
    if len(raw) != _byte_size(tensor):
        raise CheckpointError(
            f"weight {tensor.name!r} is {_DTYPES[tensor.data_type]} {list(tensor.dims)}, which takes "
            f"{_byte_size(tensor):,} bytes, and has {len(raw):,}; export the model again"
        )
    return raw


def _array_bytes(tensor: onnx.TensorProto) -> bytes:
    try:
        array = numpy_helper.to_array(tensor)
    except ValueError as error:
        raise CheckpointError(f"weight {tensor.name!r} cannot be read: {error}; export the model again") from error
    # As unsigned integers, because the byte order of bfloat16 cannot be named.
    size = array.dtype.itemsize
    return array.view(f"u{size}").astype(f"<u{size}").tobytes()


def _byte_size(tensor: onnx.TensorProto) -> int:
    return math.prod(int(length) for length in tensor.dims) * ELEMENTS[_DTYPES[tensor.data_type]].itemsize


def _member(raw: bytes) -> str:
    return f"weights/{hashlib.sha256(raw).hexdigest()}"
