"""A stand-in for TensorRT's Python API with memory on the host: an "engine" is the ONNX model, run by its reference.

Only what the target uses is here, under the names and with the results that the bindings document. It shows that the
target's calls hang together; that TensorRT itself behaves so is not shown.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from sanderling.engine import AnyArray

__version__ = "10.3.0"

BuilderFlag = SimpleNamespace(FP16="FP16", INT8="INT8", TF32="TF32")
LayerType = SimpleNamespace(QUANTIZE="QUANTIZE")
MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
DeviceType = SimpleNamespace(DLA="DLA")
TensorIOMode = SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT")
TensorLocation = SimpleNamespace(HOST="HOST", DEVICE="DEVICE")
_FORMATS = {1: "FLOAT", 7: "INT64", 9: "BOOL", 10: "HALF"}

built: list[Any] = []
"""Every configuration that was built with, the last one last."""


class Logger:
    ERROR = "ERROR"

    def __init__(self, severity: str) -> None:
        self.severity = severity


class Config(SimpleNamespace):
    def __init__(self) -> None:
        super().__init__(flags={"TF32"}, pools={}, profiles=[])

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.pools[pool] = size

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return 0


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}
        self.values: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        self.shapes[name] = (least, usual, most)

    def set_shape_input(self, name: str, least: Any, usual: Any, most: Any) -> None:
        self.values[name] = (least, usual, most)


class Builder:
    def __init__(self, logger: Logger) -> None:
        pass

    def create_network(self, flags: int) -> Any:
        return SimpleNamespace(model=None, num_layers=0)

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Any, config: Config) -> bytes | None:
        built.append(config)
        fails = "cannot build" in network.model.doc_string
        return None if fails else bytes(network.model.SerializeToString())


class OnnxParser:
    def __init__(self, network: Any, logger: Logger) -> None:
        self.network, self.num_errors = network, 0

    def parse(self, graph: bytes) -> bool:
        model = onnx.load_from_string(graph)
        if any(node.domain for node in model.graph.node):
            self.num_errors = 1
            return False
        inputs = [_tensor(value) for value in model.graph.input]
        layers = [
            SimpleNamespace(type="QUANTIZE" if n.op_type == "QuantizeLinear" else "OTHER") for n in model.graph.node
        ]
        self.network.__dict__.update(
            model=model, num_inputs=len(inputs), get_input=inputs.__getitem__, num_layers=len(layers),
            get_layer=layers.__getitem__,
        )  # fmt: skip
        return True

    def get_error(self, number: int) -> Any:
        return SimpleNamespace(desc=lambda: "no importer for this node")


def _tensor(value: onnx.ValueInfoProto) -> Any:
    tensor = value.type.tensor_type
    shape = tuple(axis.dim_value or -1 for axis in tensor.shape.dim)
    return SimpleNamespace(name=value.name, shape=shape, is_shape_tensor=shape == () and tensor.elem_type == 7)


class Runtime:
    def __init__(self, logger: Logger) -> None:
        pass

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        return None if plan == b"another TensorRT's" else Engine(onnx.load_from_string(plan))


class Engine:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.values = model, {value.name: value for value in (*model.graph.input, *model.graph.output)}
        self.num_io_tensors = len(self.values)
        self.get_tensor_name = list(self.values).__getitem__

    def create_execution_context(self) -> Any:
        return Context(self)

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name in {value.name for value in self.model.graph.input} else "OUTPUT"

    def get_tensor_location(self, name: str) -> str:
        return (
            "HOST" if self.get_tensor_mode(name) == "INPUT" and _tensor(self.values[name]).is_shape_tensor else "DEVICE"
        )

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_FORMATS[self.values[name].type.tensor_type.elem_type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(_tensor(self.values[name]).shape)

    def get_tensor_profile_shape(self, name: str, number: int) -> Any:
        return built[-1].profiles[number].shapes[name]


class Context:
    """Reads inputs from the addresses it is given and writes outputs there, as late as `execute_async_v3`."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses, self.shapes = engine, {}, {}  # type: ignore[var-annotated]

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.get_tensor_profile_shape(name, 0)
        self.shapes[name] = shape
        return len(shape) == len(least) and all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return [v.name for v in self.engine.model.graph.input if v.name not in self.addresses]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if "unknown" in self.engine.model.doc_string:
            return (-1,)
        return self._results()[name].shape

    def execute_async_v3(self, stream: int) -> bool:
        for name, result in self._results().items():
            ctypes.memmove(self.addresses[name], np.ascontiguousarray(result).ctypes.data, result.nbytes)
        return "cannot start" not in self.engine.model.doc_string

    def _results(self) -> dict[str, AnyArray]:
        feed = {}
        for value in self.engine.model.graph.input:
            array = np.empty(self.shapes.get(value.name, self.engine.get_tensor_shape(value.name)), _numpy(value))
            ctypes.memmove(array.ctypes.data, self.addresses[value.name], array.nbytes)
            feed[value.name] = array
        names = [value.name for value in self.engine.model.graph.output]
        return dict(zip(names, ReferenceEvaluator(self.engine.model).run(None, feed), strict=True))


def _numpy(value: onnx.ValueInfoProto) -> Any:
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


class HostMemory:
    """Addresses, copies and a stream as a GPU has them, on the host; copies happen at once."""

    stream = 1

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        del self.blocks[address]

    def copy_in(self, address: int, array: AnyArray) -> None:
        assert array.nbytes <= len(self.blocks[address])
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def copy_out(self, array: AnyArray, address: int) -> None:
        assert array.nbytes <= len(self.blocks[address])
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def wait(self) -> None:
        pass

    def compute_capability(self) -> str:
        return "8.7"

    def version(self) -> str:
        return "12.6"
