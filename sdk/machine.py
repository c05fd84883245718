"""What the machine under us says of itself, and which device file it fits."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import cast

from sanderling import lookup
from sanderling.device import Device
from sanderling.engine import usable_cores
from sanderling.errors import UnsupportedError

_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}
"""What Windows and Linux call them -> what device files call them."""

_X86_FLAGS = ("avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16")
_FLAGS = (*_X86_FLAGS, "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve")
"""Processor flags, as Linux spells them, that decide which kernels an engine takes."""

_ENGINES = ("onnxruntime", "onnxruntime-gpu", "openvino", "onnx")
"""Distributions whose versions are told when they are installed."""

_CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, str]:
    """Return what matters for speed, in words.

    Returns:
        cpu, architecture, cores this process may use, flags, memory_mb, os, python, numpy, and the version of each
        engine that is installed, under its distribution's name. Nothing is imported to find out.
    """
    cpu = _cpuinfo()
    return {
        "cpu": cpu.get("model name") or cpu.get("Model") or platform.processor() or "unknown",
        "architecture": architecture(),
        "cores": str(usable_cores()),
        "flags": " ".join(flag for flag in _FLAGS if flag in flags()),
        "memory_mb": _memory_mb(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        **_engine_versions(),
    }


def fingerprint() -> str:
    """Return 12 hexadecimal digits that change when anything in `describe` does."""
    return hashlib.sha256(json.dumps(describe(), sort_keys=True).encode()).hexdigest()[:12]


def fitting_device() -> str:
    """Return the name of the most specific device file that fits this machine.

    Raises:
        UnsupportedError: none fits; the message says what this machine is.
    """
    devices = [cast(Device, lookup.find("device", name)) for name in lookup.names("device")]
    fitting = [device for device in devices if _fits(device)]
    if not fitting:
        raise UnsupportedError(
            f"no device file fits architecture {architecture()!r} with flags {' '.join(sorted(flags())) or 'unknown'}; "
            f"there are files for {', '.join(lookup.names('device'))}. Name one of them as the device, or add one file "
            "to targets/devices/"
        )
    return max(fitting, key=lambda device: len(device.requires)).name


def architecture() -> str:
    """Return "x86_64", "arm64", or what else the system says."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def flags() -> frozenset[str]:
    """Return the processor's flags as Linux spells them; none on other systems."""
    cpu = _cpuinfo()
    return frozenset((cpu.get("flags") or cpu.get("Features") or "").split())


def _fits(device: Device) -> bool:
    return device.architecture == architecture() and set(device.requires) <= flags()


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
