from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sanderling import hardware, machine
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


ALDER_LAKE = "processor\t: 0\nmodel name\t: 12th Gen Intel(R) Core(TM) i7\nflags\t\t: avx f16c avx2 fma avx_vnni\n"
SAPPHIRE_RAPIDS = EPYC.replace("avx512_vnni", "avx512_vnni avx_vnni amx_tile amx_int8 amx_bf16")
CORTEX_A78 = "processor\t: 0\nFeatures\t: fp asimd aes crc32 asimdhp asimddp\n"


def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, architecture: str, cpuinfo: str | None) -> None:
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    for module in (machine, hardware):
        monkeypatch.setattr(module, "_CPUINFO", path)
    for name in ("_MODEL", "_NVIDIA", "_DISPLAYS", "_ACCELERATORS", "_POWER"):
        monkeypatch.setattr(hardware, name, tmp_path / name)
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    hardware.compute_capability.cache_clear()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def pci_device(tmp_path: Path, place: str, address: str, vendor: str) -> None:
    """Make a device as sysfs shows it: a link from its class to its place on the bus."""
    write(tmp_path / "bus" / address / "vendor", vendor + "\n")
    link = tmp_path / place / "device"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "bus" / address)


def nvidia(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str) -> None:
    """Put an NVIDIA driver's files and a nvidia-smi in place."""
    write(tmp_path / "_NVIDIA/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ: 1\n")
    write(tmp_path / "_NVIDIA/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\nGCC\n")
    write(tmp_path / "bin/nvidia-smi", f"#!/bin/sh\n{says}\n")
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("architecture", "cpuinfo", "device", "cpu"),
    [
        pytest.param("x86_64", EPYC, "x86_64_avx512_vnni", "AMD EPYC 9554", id="server with VNNI"),
        pytest.param("x86_64", HASWELL, "x86_64_avx2", "Intel(R) Core(TM) i5-4590", id="desktop of 2014"),
        pytest.param("x86_64", ATOM, "x86_64", "Intel(R) Atom(TM) E3845", id="without AVX"),
        pytest.param("x86_64", ALDER_LAKE, "x86_64_avx_vnni", "12th Gen Intel(R) Core(TM) i7", id="laptop of 2022"),
        pytest.param("x86_64", SAPPHIRE_RAPIDS, "x86_64_amx", "AMD EPYC 9554", id="server with AMX"),
        pytest.param("aarch64", PI5, "raspberry_pi_5", "Raspberry Pi 5 Model B Rev 1.0", id="Raspberry Pi 5"),
        pytest.param("aarch64", CORTEX_A78, "arm64", platform.processor() or "unknown", id="another board"),
    ],
)
def test_the_most_specific_device_that_fits_is_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, architecture: str, cpuinfo: str, device: str, cpu: str
) -> None:
    pretend(monkeypatch, tmp_path, architecture, cpuinfo)
    assert machine.fitting_device() == device
    assert machine.describe()["cpu"] == cpu


@pytest.mark.parametrize(
    ("model", "device"),
    [
        ("NVIDIA Jetson Orin Nano Developer Kit", "jetson_orin_nano"),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "jetson_orin_nx"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "jetson_agx_orin"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "jetson_thor"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry_pi_5"),
        ("Raspberry Pi 4 Model B Rev 1.4", "arm64"),
    ],
)
def test_boards_are_known_by_the_name_they_give_themselves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, device: str
) -> None:
    pretend(monkeypatch, tmp_path, "aarch64", CORTEX_A78)
    write(tmp_path / "_MODEL", model + "\0")
    assert machine.fitting_device() == device
    assert machine.describe()["board"] == model


@pytest.mark.parametrize(
    ("says", "device"),
    [
        ("echo 8.6", "nvidia_ampere"),
        ("echo 8.9; echo 8.9", "nvidia_ada"),
        ("echo 9.0", "nvidia_hopper"),
        ("echo 12.0", "nvidia_blackwell"),
        pytest.param("echo 7.5", "x86_64_avx2", id="a generation without a file"),
        pytest.param("exit 9", "x86_64_avx2", id="a driver that does not answer"),
        pytest.param("true", "x86_64_avx2", id="a driver that says nothing"),
    ],
)
def test_an_nvidia_gpu_goes_before_the_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str, device: str
) -> None:
    pretend(monkeypatch, tmp_path, "x86_64", HASWELL)
    nvidia(monkeypatch, tmp_path, says)
    assert machine.fitting_device() == device
    assert machine.describe()["gpu"] == "NVIDIA GeForce RTX 4090"
    assert machine.describe()["gpu_driver"] == "550.54.14"


def test_nvidia_smi_without_a_driver_or_a_driver_without_it_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, "x86_64", HASWELL)
    nvidia(monkeypatch, tmp_path, "echo 8.9")
    (tmp_path / "bin/nvidia-smi").unlink()
    assert machine.fitting_device() == "x86_64_avx2"
    nvidia(monkeypatch, tmp_path, "echo 8.9")
    hardware.compute_capability.cache_clear()
    monkeypatch.setattr(hardware, "_NVIDIA", tmp_path / "nowhere")
    assert machine.fitting_device() == "x86_64_avx2"


def test_intels_other_processors_are_found_but_never_chosen_unasked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, "x86_64", ALDER_LAKE)
    pci_device(tmp_path, "_DISPLAYS/card0", "0000:00:02.0", "0x8086")
    pci_device(tmp_path, "_DISPLAYS/card1", "0000:03:00.0", "0x8086")
    pci_device(tmp_path, "_DISPLAYS/card2", "0000:04:00.0", "0x1002")
    pci_device(tmp_path, "_ACCELERATORS/accel0", "0000:00:0b.0", "0x8086")
    fitting = [device.name for device in machine.fitting_devices()]
    assert fitting[:3] == ["intel_arc", "intel_igpu", "intel_npu"]
    assert machine.fitting_device() == "x86_64_avx_vnni"


def test_the_power_mode_is_part_of_what_the_machine_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "aarch64", CORTEX_A78)
    assert "power_mode" not in machine.describe()
    write(tmp_path / "_POWER", "pmode:0002 fmode:quiet\n")
    assert machine.describe()["power_mode"] == "2"
    first = machine.fingerprint()
    write(tmp_path / "_POWER", "pmode:0001 fmode:quiet\n")
    assert machine.fingerprint() != first


def test_an_engine_older_than_the_device_file_supports_is_named() -> None:
    (device,) = (device for device in machine.fitting_devices() if device.name in {"x86_64", "arm64"})
    assert machine.outdated(device) == ()
    assert machine.outdated(replace(device, oldest={"onnxruntime": "99.0", "tensorrt": "99.0"})) == (
        f"onnxruntime {machine.describe()['onnxruntime']} is older than 99.0, the oldest that {device.name} supports; "
        "update it",
    )


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
    with pytest.raises(UnsupportedError, match=r"architecture 'riscv64'.*arm64, intel_arc.*targets/devices/"):
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
