"""CUDA's driver through ctypes: memory, copies and a stream, with no package besides the driver itself.

It has never run on a real GPU here; the calls follow the CUDA driver API reference (cuda.h).
"""

from __future__ import annotations

import ctypes
from typing import Protocol

from sanderling.engine import AnyArray
from sanderling.errors import UnsupportedError

LIBRARY = "libcuda.so.1"
"""What the driver installs, on desktops and on Jetsons alike."""

_MAJOR, _MINOR = 75, 76
"""Numbers of the attributes that make up the compute capability (CUdevice_attribute)."""

_NON_BLOCKING = 1
"""A stream that does not wait for others (CU_STREAM_NON_BLOCKING)."""


class DeviceMemory(Protocol):
    """What an engine needs of a GPU: addresses, copies and a stream."""

    stream: int

    def allocate(self, size: int) -> int:
        """Return the address of that many bytes on the GPU."""
        ...

    def free(self, address: int) -> None:
        """Give bytes back."""
        ...

    def copy_in(self, address: int, array: AnyArray) -> None:
        """Start copying a contiguous array to the GPU; it must live until `wait` returns."""
        ...

    def copy_out(self, array: AnyArray, address: int) -> None:
        """Start copying from the GPU into a contiguous array; it is filled when `wait` returns."""
        ...

    def wait(self) -> None:
        """Return when everything started on the stream is done."""
        ...


class Driver:
    """The first GPU, with a stream of its own.

    Raises:
        UnsupportedError: there is no driver or no GPU.
    """

    def __init__(self) -> None:
        self._cuda = library()
        self._call("cuInit", ctypes.c_uint(0))
        self._device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(0))
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxSetCurrent", context)
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(_NON_BLOCKING))
        self.stream = stream.value or 0

    def compute_capability(self) -> str:
        """Return the GPU's compute capability, such as "8.7"."""
        return ".".join(str(self._attribute(number)) for number in (_MAJOR, _MINOR))

    def version(self) -> str:
        """Return the CUDA version that the driver speaks, such as "12.6"."""
        number = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def allocate(self, size: int) -> int:
        """Return the address of that many bytes on the GPU."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        """Give bytes back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def copy_in(self, address: int, array: AnyArray) -> None:
        """Start copying a contiguous array to the GPU."""
        source, size, stream = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), self._stream()
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), source, size, stream)

    def copy_out(self, array: AnyArray, address: int) -> None:
        """Start copying from the GPU into a contiguous array."""
        place, size, stream = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), self._stream()
        self._call("cuMemcpyDtoHAsync_v2", place, ctypes.c_uint64(address), size, stream)

    def wait(self) -> None:
        """Return when everything started on the stream is done."""
        self._call("cuStreamSynchronize", self._stream())

    def _stream(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.stream)

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), self._device)
        return value.value

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
            raise UnsupportedError(f"CUDA's {name} failed with {code}: {(text.value or b'no reason given').decode()}")


def library() -> ctypes.CDLL:
    """Return the driver's library.

    Raises:
        UnsupportedError: it is not installed.
    """
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise UnsupportedError(
            f"there is no NVIDIA driver here ({error}); install it, or choose another target"
        ) from error
