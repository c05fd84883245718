"""The house stays as it was drawn: who imports whom, what is installed, how large files are."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib import util
from pathlib import Path

import pytest

import sanderling

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "sdk": "sanderling",
    "targets": "sanderling.targets",
    "calibration": "sanderling.calibration",
    "compile": "sanderling.compile",
}
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
SDK = sorted((ROOT / "sdk").rglob("*.py"))
HEAVY = {
    "accelerate",
    "tensorboard",
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "transformers",
    "PIL",
    "tokenizers",
    "matplotlib",
    "yaml",
    "safetensors",
    "cv2",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([FOLDERS[parts[0]], *parts[1:]]).removesuffix(".__init__")


def imports_of(path: Path, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SDK, ids=name_of)
def test_sdk_imports_nothing_of_the_host(path: Path) -> None:
    above = ("sanderling.compile", "sanderling.calibration", "sanderling.targets")
    assert not [name for name in imports_of(path, top_level_only=False) if name.startswith(above)]


@pytest.mark.parametrize("path", SDK, ids=name_of)
def test_sdk_imports_nothing_heavy_when_loaded(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports_of(path, top_level_only=True)} & HEAVY


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_file_is_installed(path: Path) -> None:
    assert util.find_spec(name_of(path)) is not None, "run the install again; packages are listed in pyproject.toml"


def test_every_folder_with_code_is_a_listed_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted({name_of(path.parent / "__init__.py") for path in SOURCES})


def test_no_sdk_file_is_named_like_a_sibling_folder() -> None:
    assert not {path.stem for path in SDK} & {"targets", "calibration", "compile", "sdk"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_importing_the_runtime_loads_nothing_heavy_and_nothing_of_the_host(tmp_path: Path) -> None:
    loaded = run_python("import sanderling, sys; print(*sys.modules)", tmp_path).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & HEAVY
    assert not [name for name in loaded if name.startswith(("sanderling.compile", "sanderling.targets"))]


def test_folders_are_not_importable_under_their_bare_names(tmp_path: Path) -> None:
    """`import targets` beside `sanderling.targets` would load everything twice."""
    assert "ModuleNotFoundError" in run_python("import targets", tmp_path).stderr


def test_the_package_is_typed() -> None:
    assert (Path(sanderling.__file__).parent / "py.typed").exists()
