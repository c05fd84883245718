"""What every device file must say; a new file in targets/devices/ is tested here the day it lands."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sanderling import lookup
from sanderling.device import Device

NAMES = lookup.names("device")


def find(name: str) -> Device:
    device: Device = lookup.find("device", name)
    return device


@pytest.mark.parametrize("name", NAMES)
def test_it_is_named_after_its_file(name: str) -> None:
    assert find(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_it_names_targets_that_exist_and_run_models_fast(name: str) -> None:
    assert find(name).targets
    assert set(find(name).targets) <= set(lookup.names("target")) - {"reference"}


@pytest.mark.parametrize("name", NAMES)
def test_it_says_where_its_facts_come_from(name: str) -> None:
    assert "targets:" in find(name).source
    assert "formats:" in find(name).source
    assert find(name).description


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_known_architecture_and_number_formats(name: str) -> None:
    assert find(name).architecture in {"x86_64", "arm64"}
    assert set(find(name).formats) <= {"float32", "float16", "bfloat16", "int8", "int4"}
    assert "float32" in find(name).formats


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_every_processor_of_an_architecture_has_a_file_to_fall_back_on(architecture: str) -> None:
    generic = [name for name in NAMES if find(name).architecture == architecture and find(name).requires == ()]
    assert generic == [architecture]


def test_no_two_files_fit_a_processor_equally_well() -> None:
    for architecture in ("x86_64", "arm64"):
        wanted = [frozenset(find(name).requires) for name in NAMES if find(name).architecture == architecture]
        ordered = sorted(wanted, key=len)
        assert all(smaller < larger for smaller, larger in pairwise(ordered))
