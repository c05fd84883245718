"""Weights are kept once for the whole bundle; here they go back into a graph, without the onnx library.

A serialised message may carry a field twice, and protobuf merges the two: lists grow. So a graph whose initializers
were taken out becomes whole by bytes appended to it, one `ModelProto.graph` per weight:

    ModelProto  { graph = 7: GraphProto }
    GraphProto  { initializer = 5: TensorProto }
    TensorProto { dims = 1, data_type = 2, name = 8, raw_data = 9 }
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sanderling.errors import BundleError, UnsupportedError
from sanderling.manifest import Weight

MAX_MESSAGE_BYTES = 2**31 - 1
"""The longest message protobuf reads."""


@dataclass(frozen=True)
class Element:
    """What a tensor is made of: ONNX's number for its data type, and bytes per element."""

    onnx_type: int
    itemsize: int


ELEMENTS = {
    "float32": Element(1, 4),
    "uint8": Element(2, 1),
    "int8": Element(3, 1),
    "uint16": Element(4, 2),
    "int16": Element(5, 2),
    "int32": Element(6, 4),
    "int64": Element(7, 8),
    "bool": Element(9, 1),
    "float16": Element(10, 2),
    "float64": Element(11, 8),
    "uint32": Element(12, 4),
    "uint64": Element(13, 8),
    "bfloat16": Element(16, 2),
}
"""NumPy dtype name -> element, for every dtype a weight may have."""

_VARINT, _BYTES = 0, 2  # protobuf wire types


def restore(graph: bytes | memoryview, weights: Sequence[Weight], read: Callable[[str], memoryview]) -> bytes:
    """Return a serialised ONNX model with its weights put back.

    Args:
        graph: the model without them, as `sanderling.compile.strip` leaves it.
        weights: what was left out.
        read: bundle member name -> its bytes.

    Raises:
        BundleError: a weight's dtype is unknown, or its shape needs another number of bytes than its member has.
        UnsupportedError: the whole would be longer than protobuf reads.
    """
    parts: list[bytes | memoryview] = [graph]
    for weight in weights:
        parts += _initializer(weight, read(weight.member))
    total = sum(len(part) for part in parts)
    if total > MAX_MESSAGE_BYTES:
        raise UnsupportedError(
            f"a graph with its weights takes {total:,} bytes, and an ONNX file in one piece holds at most "
            f"{MAX_MESSAGE_BYTES:,}: quantize it, or split the component in two"
        )
    return b"".join(parts)


def byte_size(weight: Weight) -> int:
    """Return the bytes that a weight's dtype and shape need.

    Raises:
        BundleError: the dtype is unknown, or a length is no length.
    """
    if weight.dtype not in ELEMENTS:
        raise BundleError(f"weight {weight.name!r} has dtype {weight.dtype!r}, expected one of {sorted(ELEMENTS)}")
    if not all(0 <= length < 2**63 for length in weight.shape):
        raise BundleError(f"weight {weight.name!r} has shape {weight.shape}, expected lengths from 0 to 2**63 - 1")
    return math.prod(weight.shape) * ELEMENTS[weight.dtype].itemsize


def _initializer(weight: Weight, raw: memoryview) -> tuple[bytes, memoryview]:
    """Return what stands before a weight's bytes in the message, and those bytes."""
    if len(raw) != byte_size(weight):
        raise BundleError(
            f"weight {weight.name!r} is {weight.dtype} {list(weight.shape)}, which takes {byte_size(weight):,} bytes, "
            f"and its member {weight.member!r} has {len(raw):,}; make the bundle again"
        )
    tensor = b"".join(_fields(weight)) + _start(9, len(raw))
    initializer = _start(5, len(tensor) + len(raw)) + tensor
    return _start(7, len(initializer) + len(raw)) + initializer, raw


def _fields(weight: Weight) -> Iterator[bytes]:
    """Yield the fields of a TensorProto, all but its bytes."""
    for length in weight.shape:
        yield _tag(1, _VARINT) + _varint(length)
    yield _tag(2, _VARINT) + _varint(ELEMENTS[weight.dtype].onnx_type)
    try:
        name = weight.name.encode()
    except UnicodeEncodeError as error:
        raise BundleError(f"weight {weight.name!r} has a name that is not text: {error.reason}") from error
    yield _start(8, len(name)) + name


def _start(number: int, length: int) -> bytes:
    """Return what comes before a field of `length` bytes."""
    return _tag(number, _BYTES) + _varint(length)


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    """Return a non-negative integer as protobuf writes it: seven bits a byte, low bits first, high bit for "more"."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
