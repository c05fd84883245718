"""Every architecture is found by the model_type it serves; a new file is tested the day it lands."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from sanderling import lookup
from sanderling.compile.architecture import Architecture
from sanderling.errors import CheckpointError

ARCHITECTURES = lookup.names("architecture")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_serves_the_model_type_that_its_file_is_named_after(name: str) -> None:
    architecture = lookup.find("architecture", name)
    assert isinstance(architecture, Architecture)
    assert architecture.model_type == name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_is_documented(name: str) -> None:
    adapt = lookup.find("architecture", name).adapt
    assert inspect.getdoc(adapt)
    assert inspect.getdoc(inspect.getmodule(adapt))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_folder_without_weights_is_the_user_s_mistake(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="save_pretrained"):
        lookup.find("architecture", name).adapt(tmp_path, {"model_type": name})
