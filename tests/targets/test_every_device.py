"""What every device file must say; a new file in targets/devices/ is tested here the day it lands."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sanderling import lookup, machine
from sanderling.device import Device
from sanderling.engine import OpenOptions, opener
from sanderling.errors import UnknownNameError

NAMES = lookup.names("device")


def find(name: str) -> Device:
    device: Device = lookup.find("device", name)
    return device


@pytest.mark.parametrize("name", NAMES)
def test_it_is_named_after_its_file(name: str) -> None:
    assert find(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_it_names_targets_that_exist_and_run_models_fast(name: str) -> None:
    assert find(name).targets
    assert set(find(name).targets) <= set(lookup.names("target")) - {"reference"}


@pytest.mark.parametrize("name", NAMES)
def test_it_says_where_each_of_its_facts_comes_from(name: str) -> None:
    device = find(name)
    told = {"targets", "formats", "opset", "oldest"}
    optional = ("board", "compute_capability", "power_modes", "memory_mb", "needs_static_shapes")
    told |= {fact for fact in optional if getattr(device, fact)}
    told -= {"compute_capability"} if device.compute_capability is None else set()
    assert told <= set(device.sources)
    assert set(device.sources) <= {field.name for field in fields(Device)}
    assert all(device.sources.values())
    assert device.description


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_known_architecture_and_number_formats(name: str) -> None:
    device = find(name)
    assert device.architecture in {"x86_64", "arm64"}
    assert set(device.formats) <= {"float32", "float16", "bfloat16", "int8", "int4"}
    assert "float32" in device.formats
    assert set(device.requires) <= set(machine._FLAGS)
    assert all(size >= 1024 for size in device.memory_mb)


@pytest.mark.parametrize("name", NAMES)
def test_it_names_an_engine_version_and_what_that_reads(name: str) -> None:
    device = find(name)
    assert set(device.oldest) == set(device.targets)
    assert all(re.fullmatch(r"\d+\.\d+", version) for version in device.oldest.values())
    assert 17 <= device.opset <= onnx.defs.onnx_opset_version()
    assert device.ir_version in {8, 9, 10, 11, 12}


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_that_is_here_reads_the_opset_and_ir_version_it_names(name: str) -> None:
    device = find(name)
    x, y = (helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [2]) for tensor in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [x], [y])
    opsets = [helper.make_opsetid("", device.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=device.ir_version).SerializeToString()
    opened = [name for name in device.targets if opener(name).missing() is None]
    for target in opened:
        answer = opener(target).open(model, OpenOptions(threads=1)).run({"x": np.array([-1, 2], np.float32)})
        assert answer["y"].tolist() == [0, 2]
    assert opened, "every device has an engine that can stand in here"


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_has_a_compute_capability_and_nothing_else_has(name: str) -> None:
    device = find(name)
    assert (device.processor == "CUDA") == (device.compute_capability is not None)
    assert ("tensorrt" in device.targets) == (device.processor == "CUDA")
    assert device.processor in {"CPU", "GPU", "NPU", "CUDA"}


def test_a_name_close_to_a_known_one_is_an_error_that_names_it() -> None:
    with pytest.raises(UnknownNameError, match="unknown device 'jetson_orin_nanno'; did you mean 'jetson_orin_nano'"):
        lookup.find("device", "jetson_orin_nanno")


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_every_processor_of_an_architecture_has_a_file_to_fall_back_on(architecture: str) -> None:
    generic = [device.name for device in of_processors(architecture) if device.requires == ()]
    assert generic == [architecture]


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_no_two_files_fit_a_processor_equally_well(architecture: str) -> None:
    counts = [len(device.requires) for device in of_processors(architecture)]
    assert len(set(counts)) == len(counts)


def test_no_two_files_fit_a_board_or_a_gpu_equally_well() -> None:
    devices = [find(name) for name in NAMES]
    boards = [device.board for device in devices if device.board]
    assert not [board for board in boards if any(board in other for other in boards if other is not board)]
    gpus = [(device.accelerator, device.compute_capability) for device in devices if device.accelerator]
    assert len(set(gpus)) == len(gpus)


def of_processors(architecture: str) -> list[Device]:
    """Return the devices that are told apart by processor flags alone."""
    devices = [find(name) for name in NAMES]
    return [d for d in devices if d.architecture == architecture and not d.board and not d.accelerator]
