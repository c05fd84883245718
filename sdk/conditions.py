"""What state the machine is in: clocks, temperature, throttling, load, power, from the files Linux keeps about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

from sanderling import hardware

_SYS = Path("/sys")
_PROC = Path("/proc")

T = TypeVar("T")

HOTTER_C = 5.0
"""Degrees that a sensor has to rise before `changes` tells."""

SLOWER_CLOCK = 0.9
"""Share of the earlier median clock below which `changes` tells."""


@dataclass(frozen=True)
class Conditions:
    """The state of the machine at one moment; whatever it does not tell is empty or None, and `not_available` says why.

    Attributes:
        clocks_mhz: of every processor core, now.
        temperatures_c: sensor -> degrees Celsius.
        throttle_counts: counter -> how often the processor was held back since the machine started.
        load_average: processes that ran or waited to run, mean of the last minute; our own among them.
        governors: which rule sets the clocks, each once.
        boost: whether clocks above the nominal one are allowed.
        power_mode: the number of a Jetson's power mode, or the firmware's profile such as "balanced".
        on_battery: whether no mains supply is connected.
        not_available: attribute -> what was looked for.
    """

    clocks_mhz: tuple[float, ...] = ()
    temperatures_c: dict[str, float] | None = None
    throttle_counts: dict[str, int] | None = None
    load_average: float | None = None
    governors: tuple[str, ...] = ()
    boost: bool | None = None
    power_mode: str | None = None
    on_battery: bool | None = None
    not_available: dict[str, str] | None = None

    def hottest_c(self) -> float | None:
        """Return the highest temperature in degrees Celsius; None where there is no sensor."""
        return max(self.temperatures_c.values()) if self.temperatures_c else None


def read_conditions(sys: Path = _SYS, proc: Path = _PROC) -> Conditions:
    """Return the state of the machine now.

    Args:
        sys: where Linux shows its devices.
        proc: where it shows its processes.
    """
    missing: dict[str, str] = {}

    def told(name: str, found: T, looked_for: str) -> T:
        if found is None or found in ((), {}):
            missing[name] = f"not available: {looked_for}"
        return found

    return Conditions(
        clocks_mhz=told("clocks_mhz", _clocks(sys, proc), "no cpufreq and no `cpu MHz` in /proc/cpuinfo"),
        temperatures_c=told("temperatures_c", _temperatures(sys) or None, "no thermal zone and no hwmon sensor"),
        throttle_counts=told("throttle_counts", _throttle_counts(sys) or None, "no thermal_throttle counters"),
        load_average=told("load_average", _load_average(proc), "no /proc/loadavg"),
        governors=told("governors", _governors(sys), "no cpufreq"),
        boost=told("boost", _boost(sys), "no cpufreq/boost and no intel_pstate/no_turbo"),
        power_mode=told("power_mode", _power_mode(sys), "no nvpmodel status and no ACPI platform profile"),
        on_battery=told("on_battery", _on_battery(sys), "no mains supply in power_supply"),
        not_available=missing or None,
    )


def changes(before: Conditions, after: Conditions, cores: int) -> tuple[str, ...]:
    """Return one sentence for everything that makes figures taken between two moments doubtful.

    Args:
        before: the state when measuring began.
        after: the state when it ended.
        cores: that the measuring process may use; a load above it is other work.
    """
    found = [
        f"the processor was throttled: {name} rose by {count - (before.throttle_counts or {}).get(name, count)}"
        for name, count in (after.throttle_counts or {}).items()
        if count > (before.throttle_counts or {}).get(name, count)
    ]
    if before.clocks_mhz and after.clocks_mhz and median(after.clocks_mhz) < SLOWER_CLOCK * median(before.clocks_mhz):
        found.append(
            f"the median clock fell from {median(before.clocks_mhz):.0f} to {median(after.clocks_mhz):.0f} MHz"
        )
    hot, cool = after.hottest_c(), before.hottest_c()
    if hot is not None and cool is not None and hot - cool >= HOTTER_C:
        found.append(f"the hottest sensor rose from {cool:.0f} to {hot:.0f} °C")
    for name, was, now in _settings(before, after):
        if was != now:
            found.append(f"{name} changed from {was} to {now}")
    busiest = max(before.load_average or 0.0, after.load_average or 0.0)
    if busiest > cores + 0.5:
        found.append(f"other work ran: the load average was {busiest:.1f} on {cores} cores")
    if "powersave" in after.governors:
        found.append("the governor powersave holds the clock down")
    return tuple(found)


def conditions_words(conditions: Conditions) -> str:
    """Return a state in one line, "not available" where the machine is silent."""
    clocks, hot = conditions.clocks_mhz, conditions.hottest_c()
    throttled = None if conditions.throttle_counts is None else sum(conditions.throttle_counts.values())
    parts: Mapping[str, str | None] = {
        "clock": f"{median(clocks):.0f} MHz" if clocks else None,
        "hottest": None if hot is None else f"{hot:.0f} °C",
        "throttled": None if throttled is None else f"{throttled} times since start",
        "load": None if conditions.load_average is None else f"{conditions.load_average:.2f}",
        "governor": " ".join(conditions.governors) or None,
        "power mode": conditions.power_mode,
    }
    return ", ".join(f"{name} {value or 'not available'}" for name, value in parts.items())


def _settings(before: Conditions, after: Conditions) -> list[tuple[str, object, object]]:
    """Return what somebody sets, as (name, then, now)."""
    return [
        ("the governor", " ".join(before.governors), " ".join(after.governors)),
        ("boost", before.boost, after.boost),
        ("the power mode", before.power_mode, after.power_mode),
        ("running on battery", before.on_battery, after.on_battery),
    ]


def _clocks(sys: Path, proc: Path) -> tuple[float, ...]:
    """Return cpufreq's clocks, else those in /proc/cpuinfo, which virtual machines have too."""
    files = sorted((sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    found = [kilohertz for file in files if (kilohertz := _number(file)) is not None]
    if found:
        return tuple(kilohertz / 1e3 for kilohertz in found)
    return tuple(float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _text(proc / "cpuinfo"), re.MULTILINE))


def _temperatures(sys: Path) -> dict[str, float]:
    """Return thermal zones, which boards and laptops have, else hwmon's sensors, which servers have."""
    found: dict[str, float] = {}
    for zone in sorted((sys / "class/thermal").glob("thermal_zone*")):
        _add_temperature(found, _text(zone / "type") or zone.name, zone / "temp")
    if not found:
        for sensor in sorted((sys / "class/hwmon").glob("hwmon*/temp*_input")):
            label = _text(sensor.with_name(sensor.name.replace("_input", "_label")))
            _add_temperature(found, f"{_text(sensor.parent / 'name')} {label or sensor.name}".strip(), sensor)
    return found


def _add_temperature(found: dict[str, float], name: str, file: Path) -> None:
    millidegrees = _number(file)
    # A zone that is switched off shows a value far below any machine's, -256 °C on Jetson.
    if millidegrees is not None and millidegrees > -100_000:
        found[f"{name} {len(found)}" if name in found else name] = millidegrees / 1e3


def _throttle_counts(sys: Path) -> dict[str, int]:
    """Return the sum over all cores of each of the processor's own counters."""
    found: dict[str, int] = {}
    for name in ("core_throttle_count", "package_throttle_count"):
        files = (sys / "devices/system/cpu").glob(f"cpu[0-9]*/thermal_throttle/{name}")
        counts = [int(count) for file in files if (count := _number(file)) is not None]
        if counts:
            found[name] = sum(counts)
    return found


def _load_average(proc: Path) -> float | None:
    words = _text(proc / "loadavg").split()
    return float(words[0]) if words else None


def _governors(sys: Path) -> tuple[str, ...]:
    files = (sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return tuple(sorted({text for file in files if (text := _text(file))}))


def _boost(sys: Path) -> bool | None:
    cpu = sys / "devices/system/cpu"
    readings: tuple[tuple[Path, Callable[[float], bool]], ...] = (
        (cpu / "intel_pstate/no_turbo", lambda value: value == 0),
        (cpu / "cpufreq/boost", lambda value: value != 0),
    )
    for file, means in readings:
        value = _number(file)
        if value is not None:
            return means(value)
    return None


def _power_mode(sys: Path) -> str | None:
    return hardware.power_mode() or _text(sys / "firmware/acpi/platform_profile") or None


def _on_battery(sys: Path) -> bool | None:
    supplies = [kind.parent for kind in (sys / "class/power_supply").glob("*/type") if _text(kind) == "Mains"]
    online = [value for supply in supplies if (value := _number(supply / "online")) is not None]
    return not any(online) if online else None


def _text(path: Path) -> str:
    """Return a file's text; "" where it cannot be read, as sensors that are asleep cannot."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None
