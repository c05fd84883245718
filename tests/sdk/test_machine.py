from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sanderling import machine
from sanderling.engine import usable_cores
from sanderling.errors import UnsupportedError

EPYC = """\
processor\t: 0
model name\t: AMD EPYC 9554
flags\t\t: fpu sse2 avx f16c avx2 fma avx512f avx512bw avx512vl avx512_vnni

processor\t: 1
model name\t: AMD EPYC 9554
flags\t\t: fpu sse2 avx f16c avx2 fma avx512f avx512bw avx512vl avx512_vnni
"""
HASWELL = "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i5-4590\nflags\t\t: fpu sse2 avx f16c avx2 fma\n"
ATOM = "processor\t: 0\nmodel name\t: Intel(R) Atom(TM) E3845\nflags\t\t: fpu sse2 sse4_2\n"
PI5 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes crc32 asimdhp asimddp
CPU implementer\t: 0x41

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""


def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, architecture: str, cpuinfo: str | None) -> None:
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", path)
    monkeypatch.setattr(platform, "machine", lambda: architecture)


@pytest.mark.parametrize(
    ("architecture", "cpuinfo", "device", "cpu"),
    [
        pytest.param("x86_64", EPYC, "x86_64_avx512_vnni", "AMD EPYC 9554", id="server with VNNI"),
        pytest.param("x86_64", HASWELL, "x86_64_avx2", "Intel(R) Core(TM) i5-4590", id="desktop of 2014"),
        pytest.param("x86_64", ATOM, "x86_64", "Intel(R) Atom(TM) E3845", id="without AVX"),
        pytest.param("aarch64", PI5, "arm64", "Raspberry Pi 5 Model B Rev 1.0", id="Raspberry Pi 5"),
    ],
)
def test_the_most_specific_device_that_fits_is_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, architecture: str, cpuinfo: str, device: str, cpu: str
) -> None:
    pretend(monkeypatch, tmp_path, architecture, cpuinfo)
    assert machine.fitting_device() == device
    assert machine.describe()["cpu"] == cpu


@pytest.mark.parametrize(("system", "device"), [("AMD64", "x86_64"), ("arm64", "arm64")], ids=["Windows", "macOS"])
def test_without_cpuinfo_the_general_file_of_the_architecture_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, device: str
) -> None:
    pretend(monkeypatch, tmp_path, system, None)
    assert machine.fitting_device() == device
    assert machine.describe()["flags"] == ""
    assert machine.describe()["cpu"]


def test_a_machine_that_no_file_fits_is_told_what_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "riscv64", "isa\t: rv64imafdcv\n")
    with pytest.raises(UnsupportedError, match=r"architecture 'riscv64'.*arm64, x86_64.*targets/devices/"):
        machine.fitting_device()


def test_it_describes_this_machine_in_words() -> None:
    described = machine.describe()
    assert set(described) >= {"cpu", "architecture", "cores", "flags", "memory_mb", "os", "python", "numpy"}
    assert all(isinstance(value, str) for value in described.values())
    assert described["cores"] == str(usable_cores())
    assert described["numpy"] == np.__version__
    assert described["python"] == platform.python_version()
    assert int(described["memory_mb"]) > 100


def test_engine_versions_are_read_without_importing_anything() -> None:
    code = (
        "import sys; from sanderling import machine; d = machine.describe(); print(d['onnxruntime'], d['openvino'])\n"
    )
    code += "assert not {'onnxruntime', 'openvino', 'onnx', 'torch'} & set(sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split()[0].count(".") == 2


def test_the_fingerprint_stays_until_something_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = machine.fingerprint()
    assert first == machine.fingerprint()
    assert len(first) == 12
    assert int(first, 16) >= 0
    pretend(monkeypatch, tmp_path, "x86_64", EPYC)
    one = machine.fingerprint()
    pretend(monkeypatch, tmp_path, "x86_64", HASWELL)
    assert len({first, one, machine.fingerprint()}) == 3
