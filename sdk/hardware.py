"""Boards and accelerators of this machine, from the files that Linux and NVIDIA's driver keep about them."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

_MODEL = Path("/proc/device-tree/model")
_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA = Path("/proc/driver/nvidia")
_DISPLAYS = Path("/sys/class/drm")
_ACCELERATORS = Path("/sys/class/accel")
_POWER = Path("/var/lib/nvpmodel/status")

_INTEL = "0x8086"
"""Intel's number among the makers of PCI devices."""

_INTEGRATED = ":00:02.0"
"""How the PCI address of Intel's integrated graphics ends; a card has another."""

_TOOL_TIMEOUT_S = 10


def describe() -> dict[str, str]:
    """Return board, gpu, gpu_driver and power_mode in words; each only where there is one."""
    found = {"board": board(), "gpu": _gpu(), "gpu_driver": nvidia_driver(), "power_mode": power_mode()}
    return {name: value for name, value in found.items() if value}


def board() -> str:
    """Return the name that a single-board computer or Jetson gives itself; "" where there is none, as on PCs."""
    if _MODEL.exists():
        return _MODEL.read_text(errors="replace").strip("\0\n ")  # the device tree ends its texts with a zero
    lines = _CPUINFO.read_text(errors="replace").splitlines() if _CPUINFO.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model")), "")


def accelerators() -> frozenset[str]:
    """Return what there is to compute on besides processor cores, as device files call it."""
    found = {"nvidia"} if (_NVIDIA / "gpus").exists() else set()
    for vendor in _DISPLAYS.glob("card*/device/vendor"):
        if _first_line(vendor) == _INTEL:
            address = vendor.parent.resolve().name
            found.add("intel_igpu" if address.endswith(_INTEGRATED) else "intel_arc")
    if any(_first_line(vendor) == _INTEL for vendor in _ACCELERATORS.glob("accel*/device/vendor")):
        found.add("intel_npu")
    return frozenset(found)


def nvidia_driver() -> str:
    """Return the version of NVIDIA's driver, such as "550.54.14"; "" where there is none."""
    words = _first_line(_NVIDIA / "version").split()
    return next((word for word in words if word[0].isdigit() and "." in word), "")


def power_mode() -> str:
    """Return the number of a Jetson's power mode as nvpmodel last set it, such as "2"; "" where there is none."""
    for word in _first_line(_POWER).split():
        if word.startswith("pmode:"):
            return str(int(word.removeprefix("pmode:")))
    return ""


@functools.cache
def compute_capability() -> str | None:
    """Return the compute capability of the first NVIDIA GPU, such as "8.9"; None when nvidia-smi cannot say.

    It is asked once per process.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TOOL_TIMEOUT_S)
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None  # a driver that does not answer is a GPU that cannot be used
    return next(iter(done.stdout.split()), None)


def _gpu() -> str:
    """Return the model of the first NVIDIA GPU, from its driver's files."""
    for information in sorted(_NVIDIA.glob("gpus/*/information")):
        for line in information.read_text(errors="replace").splitlines():
            field, _, value = line.partition(":")
            if field.strip() == "Model":
                return value.strip()
    return ""


def _first_line(path: Path) -> str:
    return path.read_text(errors="replace").partition("\n")[0].strip() if path.is_file() else ""
