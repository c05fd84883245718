"""Energy meters over folders that look like Linux's, and what is said where there is none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sanderling import meter
from sanderling.meter import NoMeter, Nvml, PowerSensor, Rapl, find_energy_meter

NO_NVML = "/absent/libnvidia-ml.so"


def rapl(root: Path, name: str, label: str, energy_uj: int, most_uj: int = 10_000_000) -> Path:
    folder = root / "class/powercap" / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{most_uj}\n")
    return folder


def ina3221(root: Path, lines: dict[int, tuple[str, int, int]]) -> Path:
    folder = root / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    folder.mkdir(parents=True)
    for number, (label, millivolts, milliamperes) in lines.items():
        (folder / f"in{number}_label").write_text(f"{label}\n")
        (folder / f"in{number}_input").write_text(f"{millivolts}\n")
        (folder / f"curr{number}_input").write_text(f"{milliamperes}\n")
    return folder


def test_packages_are_added_and_parts_of_them_are_not(tmp_path: Path) -> None:
    first, second = rapl(tmp_path, "intel-rapl:0", "package-0", 1000), rapl(tmp_path, "intel-rapl:1", "package-1", 500)
    rapl(tmp_path, "intel-rapl:0:0", "core", 1)
    rapl(tmp_path, "intel-rapl:2", "psys", 1)
    found = find_energy_meter(tmp_path, NO_NVML)
    assert isinstance(found, Rapl)
    assert found.name == "RAPL, 2 packages"

    def work() -> None:
        (first / "energy_uj").write_text("2501000")
        (second / "energy_uj").write_text("500500")

    assert found.measure(work) == pytest.approx(3.0)


def test_a_counter_that_starts_over(tmp_path: Path) -> None:
    folder = rapl(tmp_path, "intel-rapl:0", "package-0", 9_000_000, 10_000_000)
    found = find_energy_meter(tmp_path, NO_NVML)
    assert not isinstance(found, NoMeter)
    assert found.measure(lambda: (folder / "energy_uj").write_text("500000")) == pytest.approx(1.5)


def test_a_sensor_s_power_over_time_is_energy(tmp_path: Path) -> None:
    ina3221(tmp_path, {1: ("VDD_IN", 5000, 2000), 2: ("VDD_CPU_GPU_CV", 5000, 1000)})
    found = find_energy_meter(tmp_path, NO_NVML)
    assert isinstance(found, PowerSensor)
    assert found.name == "INA3221, VDD_IN"
    begun = time.monotonic()
    joules = found.measure(lambda: time.sleep(0.05))
    took_s = time.monotonic() - begun
    assert 10 * 0.05 <= joules <= 10 * took_s


def test_the_sensor_is_read_while_the_work_goes_on(tmp_path: Path) -> None:
    folder = ina3221(tmp_path, {1: ("VDD_IN", 1000, 1000)})
    found = find_energy_meter(tmp_path, NO_NVML)
    assert not isinstance(found, NoMeter)

    def work() -> None:
        (folder / "curr1_input").write_text("100000")
        time.sleep(0.1)
        (folder / "curr1_input").write_text("1000")

    assert found.measure(work) > 2, "100 W for most of 0.1 s; 1 W would be 0.1 J"


def test_without_a_whole_board_line_all_are_added(tmp_path: Path) -> None:
    ina3221(tmp_path, {1: ("VDD_CPU", 1000, 1000), 2: ("VDD_GPU", 1000, 2000)})
    found = find_energy_meter(tmp_path, NO_NVML)
    assert not isinstance(found, NoMeter)
    assert found.name == "INA3221, VDD_CPU + VDD_GPU"


def test_a_sensor_survives_work_that_fails(tmp_path: Path) -> None:
    ina3221(tmp_path, {1: ("VDD_IN", 1000, 1000)})
    found = find_energy_meter(tmp_path, NO_NVML)
    assert not isinstance(found, NoMeter)
    with pytest.raises(ZeroDivisionError):
        found.measure(lambda: 1 // 0)


def test_without_a_meter_it_is_said_what_was_looked_for(tmp_path: Path) -> None:
    found = find_energy_meter(tmp_path, NO_NVML)
    assert isinstance(found, NoMeter)
    for words in ("INA3221: no supply line", "RAPL: no package", NO_NVML):
        assert words in found.reason


def test_a_counter_that_only_root_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0", 1)
    read = meter._read_int

    def refusing(path: Path) -> int:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(meter, "_read_int", refusing)  # the tests may run as root, who may read everything
    found = find_energy_meter(tmp_path, NO_NVML)
    assert isinstance(found, NoMeter)
    assert "energy_uj may be read by root only" in found.reason


def test_garbage_in_a_counter_is_no_meter(tmp_path: Path) -> None:
    (rapl(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").write_text("garbage")
    assert isinstance(find_energy_meter(tmp_path, NO_NVML), NoMeter)


def test_a_library_that_is_not_nvml(tmp_path: Path) -> None:
    import ctypes.util

    found = find_energy_meter(tmp_path, ctypes.util.find_library("c"))
    assert isinstance(found, NoMeter)
    assert "is another library" in found.reason


def test_this_machine_s_own_meter_counts_or_says_why_not() -> None:
    found = find_energy_meter()
    if isinstance(found, NoMeter):
        assert found.reason
    else:
        assert isinstance(found, Rapl | PowerSensor | Nvml)
        assert found.measure(lambda: time.sleep(0.01)) >= 0
