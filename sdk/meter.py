"""Meters of what a call takes besides time: peak memory, and energy where the machine counts it."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Protocol

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_SYS = Path("/sys")

SAMPLE_S = 0.01
"""Between two readings of a sensor that shows power and does not count energy."""


def reset_peak_memory() -> bool:
    """Start a new measurement of peak memory; return False where the system cannot."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak_memory_mb() -> float | None:
    """Return this process's peak resident memory since the last reset in MB; None where the system is silent."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    except OSError:
        return None
    return int(found.group(1)) / 1024 if found else None


class EnergyMeter(Protocol):
    """Counts joules of a part of the machine, whoever uses it, idle power included."""

    @property
    def name(self) -> str:
        """What it reads, for people."""
        ...

    def measure(self, work: Callable[[], object]) -> float:
        """Do the work once and return the joules that were used meanwhile."""
        ...


@dataclass(frozen=True)
class NoMeter:
    """There is no energy meter; `reason` says what was looked for and why it cannot be read."""

    reason: str


class Rapl:
    """The energy counters of Intel and AMD processor packages (Linux powercap).

    Args:
        packages: folders such as /sys/class/powercap/intel-rapl:0; their joules are added.
    """

    def __init__(self, packages: list[Path]) -> None:
        self.name = f"RAPL, {len(packages)} package{'s' if len(packages) != 1 else ''}"
        self._packages = packages
        self._ranges = [_read_int(package / "max_energy_range_uj") for package in packages]
        self._read()

    def measure(self, work: Callable[[], object]) -> float:
        """Do the work once and return the joules of the packages meanwhile; a counter may start over once."""
        before = self._read()
        work()
        after = self._read()
        used = [a - b if a >= b else a - b + r for a, b, r in zip(after, before, self._ranges, strict=True)]
        return sum(used) / 1e6

    def _read(self) -> list[int]:
        return [_read_int(package / "energy_uj") for package in self._packages]


class PowerSensor:
    """An INA3221 power monitor, as on Jetson boards, read again and again in a thread while the work goes on.

    Args:
        rails: (millivolt file, milliampere file) of each supply line to count.
        label: of those lines.
    """

    def __init__(self, rails: list[tuple[Path, Path]], label: str) -> None:
        self.name = f"INA3221, {label}"
        self._rails = rails
        self._watts()

    def measure(self, work: Callable[[], object]) -> float:
        """Do the work once and return the joules of the lines meanwhile: mean power times duration."""
        done = threading.Event()
        watts = [self._watts()]

        def sample() -> None:
            while not done.wait(SAMPLE_S):
                # A sensor on a busy bus fails to answer now and then; the mean is of the readings there are.
                with suppress(OSError, ValueError):
                    watts.append(self._watts())

        sampler = threading.Thread(target=sample, daemon=True)
        begun = monotonic()
        sampler.start()
        try:
            work()
        finally:
            done.set()
            sampler.join()
        took_s = monotonic() - begun
        watts.append(self._watts())
        return took_s * sum(watts) / len(watts)

    def _watts(self) -> float:
        return sum(_read_int(volts) * _read_int(amperes) for volts, amperes in self._rails) / 1e6


class Nvml:
    """The total energy counter of the first NVIDIA GPU, through the driver's own library.

    Args:
        library: libnvidia-ml, loaded and initialised.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self.name = "NVML, first GPU"
        self._library = library
        self._device = ctypes.c_void_p()
        _nvml_check(library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self._device)), "no GPU 0")
        self._millijoules()

    def measure(self, work: Callable[[], object]) -> float:
        """Do the work once and return the joules of the GPU meanwhile."""
        before = self._millijoules()
        work()
        return (self._millijoules() - before) / 1e3

    def _millijoules(self) -> int:
        counted = ctypes.c_ulonglong()
        code = self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(counted))
        _nvml_check(code, "it does not count energy (GPUs before Volta do not)")
        return counted.value


def find_energy_meter(sys: Path = _SYS, nvml: str | None = None) -> EnergyMeter | NoMeter:
    """Return the machine's energy meter: Jetson's sensor, then the processor's counter, then the GPU's; or why none.

    Args:
        sys: where Linux shows its devices.
        nvml: path of libnvidia-ml; looked for where the system's loader does when None.
    """
    reasons = []
    for find in (lambda: _find_sensor(sys), lambda: _find_rapl(sys), lambda: _find_nvml(nvml)):
        try:
            return find()
        except (OSError, ValueError) as error:
            reasons.append(str(error))
    return NoMeter("; ".join(reasons))


def _find_rapl(sys: Path) -> Rapl:
    packages = sorted((sys / "class/powercap").glob("intel-rapl:*"))
    packages = [p for p in packages if p.name.count(":") == 1 and _label(p / "name").startswith("package")]
    if not packages:
        raise ValueError("RAPL: no package under /sys/class/powercap")
    try:
        return Rapl(packages)
    except PermissionError as error:
        raise ValueError(f"RAPL: {error.filename} may be read by root only") from error


def _find_sensor(sys: Path) -> PowerSensor:
    """Return the whole board's input where the sensor has it (VDD_IN and its older names), else every line it has."""
    rails: dict[str, tuple[Path, Path]] = {}
    for monitor in sorted((sys / "bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*")):
        for label in sorted(monitor.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            volts, amperes = monitor / f"in{number}_input", monitor / f"curr{number}_input"
            if volts.exists() and amperes.exists():
                rails[_label(label)] = (volts, amperes)
    if not rails:
        raise ValueError("INA3221: no supply line under /sys/bus/i2c/drivers/ina3221")
    whole = next((name for name in ("VDD_IN", "POM_5V_IN", "SYS_VIN") if name in rails), None)
    chosen = {whole: rails[whole]} if whole else rails
    return PowerSensor(list(chosen.values()), " + ".join(chosen))


def _find_nvml(path: str | None) -> Nvml:
    found = path or ctypes.util.find_library("nvidia-ml")
    if not found:
        raise ValueError("NVML: libnvidia-ml is not installed")
    library = ctypes.CDLL(found)
    if not hasattr(library, "nvmlInit_v2"):
        raise ValueError(f"NVML: {found} is another library")
    _nvml_check(library.nvmlInit_v2(), "the driver does not answer")
    return Nvml(library)


def _nvml_check(code: int, problem: str) -> None:
    if code != 0:
        raise ValueError(f"NVML: {problem} (code {code})")


def _label(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _read_int(path: Path) -> int:
    return int(path.read_text())
