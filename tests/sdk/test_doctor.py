from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sanderling import doctor, lookup, machine
from sanderling.engine import AnyArray, Engine, OpenOptions, opener
from sanderling.errors import UnsupportedError


@dataclass(frozen=True)
class Broken:
    """A target that opens and then answers wrongly or not at all."""

    answer: AnyArray | Exception
    name: str = "onnxruntime"
    processor: str = "CPU"
    caution: str = ""

    def missing(self) -> str | None:
        return None

    def open(self, graph: bytes, options: OpenOptions) -> Engine:
        return self

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"y": self.answer}


def test_the_small_graph_is_what_its_docstring_says() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy")
    weights = [
        numpy_helper.from_array(np.array([[1, 2], [3, 4]], np.float32), "w"),
        numpy_helper.from_array(np.array([10, 20], np.float32), "b"),
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    graph = helper.make_graph(nodes, "t", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(doctor.SMALL_GRAPH)
    assert model.SerializeToString(deterministic=True) == doctor.SMALL_GRAPH


def test_every_target_that_is_here_passes_and_the_others_say_what_is_missing() -> None:
    found = doctor.diagnose()
    missing = {name: opener(name).missing() for name in lookup.names("target")}
    assert [(row.name, row.status, row.reason) for row in found.rows] == [
        (name, "FAIL" if reason else "PASS", reason or "") for name, reason in missing.items()
    ]
    assert {row.name for row in found.rows if row.status == "PASS"} >= {"onnxruntime", "openvino", "reference"}
    assert found.device == machine.fitting_device()
    assert found.machine == machine.describe()


def test_it_shows_every_device_file_that_fits_and_what_has_never_run() -> None:
    found = doctor.diagnose()
    assert found.device in [device.name for device in found.devices]
    assert machine.architecture() in [device.name for device in found.devices]
    assert found.outdated == ()
    assert {row.name: row.caution for row in found.rows if row.caution} == {
        "tensorrt": "has never run on a real GPU; see targets/tensorrt.py"
    }


def test_an_engine_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "outdated", lambda device: (f"onnxruntime 1.10 is too old for {device.name}",))
    assert doctor.diagnose().outdated == (f"onnxruntime 1.10 is too old for {machine.fitting_device()}",)


@pytest.mark.parametrize(("name", "library"), [("onnxruntime", "onnxruntime"), ("reference", "onnx.reference")])
def test_a_missing_library_fails_with_what_to_install(monkeypatch: pytest.MonkeyPatch, name: str, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    rows = {row.name: row for row in doctor.diagnose().rows}
    assert rows[name].status == "FAIL"
    assert "pip install 'sanderling[" in rows[name].reason
    assert rows["openvino"].status == "PASS"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(np.zeros((2, 2), np.float32), "answered [[0.0, 0.0], [0.0, 0.0]], expected", id="wrong"),
        pytest.param(np.full((2, 2), np.nan, np.float32), "answered [[nan", id="not a number"),
        pytest.param(RuntimeError("illegal instruction"), "RuntimeError: illegal instruction", id="cannot run"),
        pytest.param(UnsupportedError("no such operator"), "UnsupportedError: no such operator", id="cannot open"),
        pytest.param(OSError("libtbb.so: not found"), "OSError: libtbb.so: not found", id="broken library"),
    ],
)
def test_pass_means_that_it_ran_and_was_right(
    monkeypatch: pytest.MonkeyPatch, answer: AnyArray | Exception, reason: str
) -> None:
    monkeypatch.setattr(doctor, "opener", lambda _: Broken(answer))
    rows = doctor.diagnose().rows
    assert {row.status for row in rows} == {"FAIL"}
    assert all(reason in row.reason for row in rows)


def test_a_machine_without_a_device_file_is_still_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "architecture", lambda: "riscv64")
    found = doctor.diagnose()
    assert found.device is None
    assert found.devices == ()
    assert "PASS" in {row.status for row in found.rows}
