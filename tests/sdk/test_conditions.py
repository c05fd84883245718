"""The machine's state over folders that look like Linux's, and what is said where a file is missing."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from sanderling import hardware
from sanderling.conditions import Conditions, changes, conditions_words, read_conditions


def put(root: Path, path: str, text: object) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    root = tmp_path / "sys"
    for core in range(2):
        cpu = f"devices/system/cpu/cpu{core}"
        put(root, f"{cpu}/cpufreq/scaling_cur_freq", 1_500_000 + 500_000 * core)
        put(root, f"{cpu}/cpufreq/scaling_governor", "schedutil")
        put(root, f"{cpu}/thermal_throttle/core_throttle_count", 3)
        put(root, f"{cpu}/thermal_throttle/package_throttle_count", 1)
    put(root, "class/thermal/thermal_zone0/type", "cpu-thermal")
    put(root, "class/thermal/thermal_zone0/temp", 61_500)
    put(root, "class/thermal/thermal_zone1/type", "gpu-thermal")
    put(root, "class/thermal/thermal_zone1/temp", -256_000)
    put(root, "devices/system/cpu/intel_pstate/no_turbo", 0)
    put(root, "firmware/acpi/platform_profile", "balanced")
    put(root, "class/power_supply/AC/type", "Mains")
    put(root, "class/power_supply/AC/online", 1)
    put(root, "class/power_supply/BAT0/type", "Battery")
    return root


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    root = tmp_path / "proc"
    put(root, "loadavg", "1.25 0.90 0.80 2/345 6789")
    return root


def test_everything_a_machine_tells(sys: Path, proc: Path) -> None:
    found = read_conditions(sys, proc)
    assert found == Conditions(
        clocks_mhz=(1500.0, 2000.0),
        temperatures_c={"cpu-thermal": 61.5},  # the other zone is switched off
        throttle_counts={"core_throttle_count": 6, "package_throttle_count": 2},
        load_average=1.25,
        governors=("schedutil",),
        boost=True,
        power_mode="balanced",
        on_battery=False,
        not_available=None,
    )
    assert conditions_words(found) == (
        "clock 1750 MHz, hottest 62 °C, throttled 8 times since start, load 1.25, governor schedutil, "
        "power mode balanced"
    )


def test_what_a_machine_does_not_tell_is_said(tmp_path: Path) -> None:
    found = read_conditions(tmp_path, tmp_path)
    assert found.not_available is not None
    assert set(found.not_available) == {field.name for field in fields(Conditions)} - {"not_available"}
    assert all(reason.startswith("not available: no ") for reason in found.not_available.values())
    assert conditions_words(found).count("not available") == 6
    assert changes(found, found, 2) == ()


def test_sensors_of_servers_and_clocks_of_virtual_machines(tmp_path: Path) -> None:
    put(tmp_path, "class/hwmon/hwmon0/name", "k10temp")
    put(tmp_path, "class/hwmon/hwmon0/temp1_input", 70_000)
    put(tmp_path, "class/hwmon/hwmon0/temp1_label", "Tctl")
    put(tmp_path, "class/hwmon/hwmon0/temp2_input", 65_000)
    put(tmp_path, "cpuinfo", "processor: 0\ncpu MHz\t\t: 2596.122\nprocessor: 1\ncpu MHz\t\t: 2600.000")
    found = read_conditions(tmp_path, tmp_path)
    assert found.temperatures_c == {"k10temp Tctl": 70.0, "k10temp temp2_input": 65.0}
    assert found.hottest_c() == 70.0
    assert found.clocks_mhz == (2596.122, 2600.0)


def test_zones_of_one_name_are_kept_apart(sys: Path, proc: Path) -> None:
    put(sys, "class/thermal/thermal_zone2/type", "cpu-thermal")
    put(sys, "class/thermal/thermal_zone2/temp", 80_000)
    found = read_conditions(sys, proc).temperatures_c
    assert found is not None
    assert sorted(found.values()) == [61.5, 80.0]


@pytest.mark.parametrize("spoiled", ["garbage", ""])
def test_a_file_that_says_nothing_is_as_good_as_none(spoiled: str, sys: Path, proc: Path) -> None:
    put(sys, "class/thermal/thermal_zone0/temp", spoiled)
    found = read_conditions(sys, proc)
    assert found.temperatures_c is None
    assert "temperatures_c" in (found.not_available or {})


def test_a_jetson_s_power_mode(sys: Path, proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "nvpmodel", "pmode:0002")
    monkeypatch.setattr(hardware, "_POWER", tmp_path / "nvpmodel")
    assert read_conditions(sys, proc).power_mode == "2"


@pytest.mark.parametrize(("file", "value", "boost"), [("no_turbo", 1, False), ("boost", 1, True), ("boost", 0, False)])
def test_boost(file: str, value: int, boost: bool, sys: Path, proc: Path) -> None:
    cpu = sys / "devices/system/cpu"
    (cpu / "intel_pstate/no_turbo").unlink()
    put(cpu, f"intel_pstate/{file}" if file == "no_turbo" else f"cpufreq/{file}", value)
    assert read_conditions(sys, proc).boost is boost


STATE = Conditions(
    clocks_mhz=(3000.0, 3000.0),
    temperatures_c={"cpu": 50.0},
    throttle_counts={"core_throttle_count": 4},
    load_average=1.0,
    governors=("performance",),
    boost=True,
    power_mode="0",
    on_battery=False,
)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (replace(STATE, throttle_counts={"core_throttle_count": 7}), "throttled: core_throttle_count rose by 3"),
        (replace(STATE, clocks_mhz=(2000.0, 2000.0)), "clock fell from 3000 to 2000 MHz"),
        (replace(STATE, temperatures_c={"cpu": 71.0}), "rose from 50 to 71 °C"),
        (replace(STATE, load_average=3.0), "load average was 3.0 on 2 cores"),
        (replace(STATE, governors=("schedutil",)), "governor changed from performance to schedutil"),
        (replace(STATE, boost=False), "boost changed from True to False"),
        (replace(STATE, power_mode="2"), "power mode changed from 0 to 2"),
        (replace(STATE, on_battery=True), "battery changed from False to True"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_figures_doubtful(after: Conditions, said: str) -> None:
    (told,) = changes(STATE, after, 2)
    assert said in told


def test_small_changes_are_no_doubt() -> None:
    after = replace(STATE, clocks_mhz=(2900.0, 2800.0), temperatures_c={"cpu": 53.0}, load_average=2.2)
    assert changes(STATE, after, 2) == ()


def test_powersave_is_a_doubt() -> None:
    slow = replace(STATE, governors=("powersave",))
    assert changes(slow, slow, 2) == ("the governor powersave holds the clock down",)
