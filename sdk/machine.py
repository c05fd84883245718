"""What the machine under us says of itself, and which device file it fits."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import cast

from sanderling import hardware, lookup
from sanderling.device import Device
from sanderling.engine import usable_cores
from sanderling.errors import UnsupportedError

_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}
"""What Windows and Linux call them -> what device files call them."""

_X86_FLAGS = ("avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16")
_FLAGS = (*_X86_FLAGS, "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve")
"""Processor flags, as Linux spells them, that decide which kernels an engine takes."""

_DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
}
"""Target -> distributions that bring its engine; JetPack installs TensorRT's as "tensorrt" too."""

_ENGINES = (*itertools.chain(*_DISTRIBUTIONS.values()), "onnx")
"""Distributions whose versions are told when they are installed."""

_CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, str]:
    """Return what matters for speed, in words.

    Returns:
        cpu, architecture, cores this process may use, flags, memory_mb, os, python, numpy, and the version of each
        engine that is installed, under its distribution's name; board, gpu and gpu_driver where there are any.
        Nothing is imported to find out.
    """
    cpu = _cpuinfo()
    found = hardware.describe()
    return {
        "cpu": cpu.get("model name") or cpu.get("Model") or platform.processor() or "unknown",
        "architecture": architecture(),
        "cores": str(usable_cores()),
        "flags": " ".join(flag for flag in _FLAGS if flag in flags()),
        "memory_mb": _memory_mb(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        **found,
        **_engine_versions(),
    }


def fingerprint() -> str:
    """Return 12 hexadecimal digits that change when anything in `describe` does."""
    return hashlib.sha256(json.dumps(describe(), sort_keys=True).encode()).hexdigest()[:12]


def fitting_device() -> str:
    """Return the name of the most specific device file that fits this machine.

    An NVIDIA GPU or a board goes before processor flags. Intel's graphics and neural processors do not: most machines
    with them run models on the processor cores unless told otherwise, so they are chosen by name.

    Raises:
        UnsupportedError: none fits; the message says what this machine is.
    """
    fitting = [device for device in fitting_devices() if not device.accelerator.startswith("intel")]
    if not fitting:
        raise UnsupportedError(
            f"no device file fits architecture {architecture()!r} with flags {' '.join(sorted(flags())) or 'unknown'}; "
            f"there are files for {', '.join(lookup.names('device'))}. Name one of them as the device, or add one file "
            "to targets/devices/"
        )
    return fitting[0].name


def fitting_devices() -> tuple[Device, ...]:
    """Return every device file that fits this machine, the most specific first."""
    devices = [cast(Device, lookup.find("device", name)) for name in lookup.names("device")]
    here = _Here(architecture(), flags(), hardware.board(), hardware.accelerators(), hardware.compute_capability)
    return tuple(sorted(filter(here.fits, devices), key=_specific, reverse=True))


def outdated(device: Device) -> tuple[str, ...]:
    """Return one sentence for every installed engine that is older than a device file supports."""
    told = []
    for target, oldest in device.oldest.items():
        for name in _DISTRIBUTIONS[target]:
            version = _engine_versions().get(name)
            if version is not None and _numbers(version) < _numbers(oldest):
                told.append(
                    f"{name} {version} is older than {oldest}, the oldest that {device.name} supports; update it"
                )
    return tuple(told)


def architecture() -> str:
    """Return "x86_64", "arm64", or what else the system says."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def flags() -> frozenset[str]:
    """Return the processor's flags as Linux spells them; none on other systems."""
    cpu = _cpuinfo()
    return frozenset((cpu.get("flags") or cpu.get("Features") or "").split())


@dataclass(frozen=True)
class _Here:
    """What this machine has, as far as device files ask for it."""

    architecture: str
    flags: frozenset[str]
    board: str
    accelerators: frozenset[str]
    compute_capability: Callable[[], str | None]

    def fits(self, device: Device) -> bool:
        """Say whether a device file describes this machine."""
        return (
            device.architecture == self.architecture
            and set(device.requires) <= self.flags
            and device.board in self.board
            and (not device.accelerator or device.accelerator in self.accelerators)
            # Asked last, because it starts a process.
            and (device.accelerator != "nvidia" or device.compute_capability == self.compute_capability())
        )


def _specific(device: Device) -> tuple[bool, bool, int]:
    return device.accelerator != "", device.board != "", len(device.requires)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, which is as far as device files go."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _cpuinfo() -> dict[str, str]:
    """Return field -> value from Linux's description of its processors; the first value where they differ."""
    if not _CPUINFO.exists():
        return {}
    found: dict[str, str] = {}
    for line in _CPUINFO.read_text(errors="replace").splitlines():
        field, _, value = line.partition(":")
        found.setdefault(field.strip(), value.strip())
    return found


def _memory_mb() -> str:
    if not hasattr(os, "sysconf"):
        return "unknown"
    return str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20)


def _engine_versions() -> dict[str, str]:
    installed = {name: next(iter(metadata.distributions(name=name)), None) for name in _ENGINES}
    return {name: distribution.version for name, distribution in installed.items() if distribution is not None}
