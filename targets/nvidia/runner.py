"""Runs a built TensorRT engine on arrays.

It has never run here on a GPU; the tests run it on a stand-in that keeps its memory on the host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sanderling.engine import AnyArray, Build
from sanderling.errors import InputError, UnsupportedError
from sanderling.targets.nvidia.driver import DeviceMemory

_FORMATS: dict[str, type] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}
"""TensorRT's names of number formats -> NumPy's."""


class TensorRtEngine:
    """An engine with one execution context and buffers that grow to the largest call.

    Args:
        library: the module tensorrt.
        engine: an ICudaEngine.
        memory: of the GPU it runs on.
        build: what it was built with; lever values outside its ranges are refused.
    """

    def __init__(self, library: Any, engine: Any, memory: DeviceMemory, build: Build) -> None:
        self._engine, self._memory, self._build = engine, memory, build
        self._context = engine.create_execution_context()
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        self._on_host = {name for name in names if engine.get_tensor_location(name) == library.TensorLocation.HOST}
        self._formats = {name: np.dtype(_FORMATS[engine.get_tensor_dtype(name).name]) for name in names}
        self._buffers: dict[str, tuple[int, int]] = {}

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Return every output by name; the arrays are the caller's own.

        Raises:
            InputError: an input is missing, has another number format, or lies outside what the engine was built for.
            UnsupportedError: the length of an output is not known before it is computed, or the run fails.
        """
        kept_alive = [self._give(name, inputs) for name in self._inputs]
        unclear = self._context.infer_shapes()
        if unclear:
            raise UnsupportedError(f"tensorrt does not know the shapes that follow from {', '.join(unclear)}")
        outputs = {name: self._prepare(name) for name in self._outputs}
        if not self._context.execute_async_v3(self._memory.stream):
            raise UnsupportedError("tensorrt could not start the engine; its reasons are on the error output")
        for name, array in outputs.items():
            if name not in self._on_host:
                self._memory.copy_out(array, self._buffers[name][0])
        self._memory.wait()
        del kept_alive  # the copies have been made
        return outputs

    def close(self) -> None:
        """Give the buffers on the GPU back."""
        for address, _ in self._buffers.values():
            self._memory.free(address)
        self._buffers.clear()

    def _give(self, name: str, inputs: Mapping[str, AnyArray]) -> AnyArray:
        """Hand one input to the context and return the array that must live until the run is over."""
        if name not in inputs:
            raise InputError(f"input {name!r} is missing; the engine takes {', '.join(self._inputs)}")
        array = np.require(inputs[name], requirements="C")
        if array.dtype != self._formats[name]:
            raise InputError(f"input {name!r} is {array.dtype}, expected {self._formats[name]}")
        span = self._build.values.get(name)
        if span is not None and not (np.asarray(span.least) <= array).all() & (array <= np.asarray(span.most)).all():
            raise InputError(f"input {name!r} is {array.tolist()}; it was built for {span.least} to {span.most}")
        if -1 in self._engine.get_tensor_shape(name) and not self._context.set_input_shape(name, array.shape):
            least, _, most = self._engine.get_tensor_profile_shape(name, 0)
            raise InputError(
                f"input {name!r} has shape {list(array.shape)}; it was built for {tuple(least)} to {tuple(most)}"
            )
        if name in self._on_host:
            self._context.set_tensor_address(name, array.ctypes.data)
        else:
            self._memory.copy_in(self._place(name, array.nbytes), array)
        return array

    def _prepare(self, name: str) -> AnyArray:
        """Return an array for an output, after telling the context where to write it."""
        shape = tuple(self._context.get_tensor_shape(name))
        if -1 in shape:
            raise UnsupportedError(
                f"how long output {name!r} gets is known only when it is computed; choose another target"
            )
        array = np.empty(shape, self._formats[name])
        if name in self._on_host:
            self._context.set_tensor_address(name, array.ctypes.data)
        else:
            self._place(name, math.prod(shape) * array.itemsize)
        return array

    def _place(self, name: str, size: int) -> int:
        """Return the address of a tensor's buffer on the GPU, grown to a size."""
        address, room = self._buffers.get(name, (0, 0))
        if room < size or room == 0:
            if room:
                self._memory.free(address)
            room = max(size, 1)
            address = self._memory.allocate(room)
            self._buffers[name] = (address, room)
        self._context.set_tensor_address(name, address)
        return address
