"""Arrays as `.npy` bytes: one spelling, plain numbers only, read without evaluating or unpickling anything."""

from __future__ import annotations

import io
import math
import re

import numpy as np

from sanderling.engine import AnyArray
from sanderling.errors import BundleError, InputError
from sanderling.weights import ELEMENTS

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '(...)', 'fortran_order': False, 'shape': (\([0-9, ]{0,400}\)), \} *\n",
    re.DOTALL,
)
_DTYPES = {name: np.dtype(name).newbyteorder("<") for name in sorted(ELEMENTS) if name != "bfloat16"}
_SPELLED = {dtype.str.encode(): dtype for dtype in _DTYPES.values()}


def array_bytes(array: AnyArray) -> bytes:
    """Return an array as a `.npy` file: little endian, rows first; equal arrays give equal bytes.

    Raises:
        InputError: the array holds something other than plain numbers.
    """
    if array.dtype.name not in _DTYPES:
        raise InputError(f"cannot store an array of {array.dtype}; convert it to one of {list(_DTYPES)}")
    file = io.BytesIO()
    plain = np.asarray(array, dtype=_DTYPES[array.dtype.name], order="C")
    np.lib.format.write_array(file, plain, version=(1, 0), allow_pickle=False)
    return file.getvalue()


def parse_npy(data: memoryview, name: str) -> AnyArray:
    """Return the array that `array_bytes` wrote, as a read-only view of `data`.

    The header is matched against the one form we write, and its shape against the bytes that are there, so no file can
    make this run code or ask for more memory than the file has.

    Args:
        data: a `.npy` file.
        name: what it is called, for error messages.

    Raises:
        BundleError: it is anything else, or its shape does not fit its length.
    """
    match = _HEADER.match(data)
    if match is None or match.end() != 10 + int.from_bytes(match[1], "little"):
        raise BundleError(f"array {name!r} is not a .npy file of plain numbers as array_bytes writes it")
    shape = tuple(int(length) for length in re.findall(rb"\d+", match[3]))
    if match[2] not in _SPELLED or str(shape).encode() != match[3]:
        raise BundleError(
            f"array {name!r} has dtype {match[2]!r} and shape {match[3]!r}, which array_bytes never writes"
        )
    dtype = _SPELLED[match[2]]
    needed, found = math.prod(shape) * dtype.itemsize, len(data) - match.end()
    if needed != found:
        raise BundleError(
            f"array {name!r} is {dtype} {list(shape)}, which takes {needed:,} bytes, and it has {found:,}; "
            "make the bundle again"
        )
    try:
        return np.frombuffer(data, dtype=dtype, offset=match.end()).reshape(shape)
    except ValueError as error:  # more axes, or an empty array with a longer one, than NumPy has
        raise BundleError(f"array {name!r} has no possible shape: {error}") from error
