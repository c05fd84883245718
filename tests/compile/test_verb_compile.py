"""`sanderling compile`, from the command line to a bundle that answers."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from command import sanderling

from sanderling.session import load

SOURCE = "from tiny import adapted_tiny\n\n\ndef adapt():\n    return adapted_tiny()\n"
RECIPE = """
passes:
  - reduce: {reducers: [random, saliency], layers: [1], fractions: [0.5, 0.25]}
targets: [onnxruntime]
threads: 1
budget: {latency_ms: 500}
"""
DATA = "from tiny import tiny_data\n\n\ndef some():\n    return tiny_data(3)\n"


@pytest.fixture
def here(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a source, a recipe and data in it, and the cache that the tiny bundle was made with."""
    for name, text in {"model.py": SOURCE, "recipe.yaml": RECIPE, "compile_data.py": DATA}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SANDERLING_CACHE", str(tiny_folder / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("sanderling.calibration.choose.ROUNDS", 2)
    return tmp_path


def test_compiles_a_source_with_recipe_and_data(here: Path, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--recipe", "recipe.yaml", "--data", "compile_data:some"]
    result = sanderling(capsys, "compile", "model.py", "-o", "out.sand", *options)
    assert result.code == 0
    assert "3 of 3 graphs reused" in result.out
    assert "vision on onnxruntime" in result.out
    assert "sanderling run out.sand --input image=photo.jpg" in result.out
    assert re.search(r"measuring (\d+)/\1", result.err)
    with load(here / "out.sand") as session:
        answer = session.run({"image": picture})
        assert session.measured.ladder.rungs[-1].latency.samples == 3
    assert answer.receipt.asked.latency_ms == 500
    assert not list(here.glob(".sanderling-*"))


def test_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = sanderling(
        capsys,
        "compile",
        "model.py",
        "-o",
        "out.sand",
        "--recipe",
        "recipe.yaml",
        "--data",
        "compile_data:some",
        "--json",
    )
    found = result.json
    assert found["path"] == "out.sand"
    assert found["bytes"] == (here / "out.sand").stat().st_size
    assert found["ladder"]["rungs"][-1]["graphs"] == {"vision": "full"}
    assert len(found["rejected"]) + len(found["ladder"]["rungs"]) == 5
    assert any("reused" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "-o", "o.sand"], "absent does not exist"),
        (["model.py", "-o", "nowhere/o.sand"], "folder"),
        (["model.py", "-o", "o.sand", "--device", "abacus"], "unknown device 'abacus'"),
        (["model.py", "-o", "o.sand", "--recipe", "absent.yaml"], "recipe absent.yaml cannot be read"),
        (["model.py", "-o", "o.sand", "--data", "compile_data"], "expected MODULE:FUNCTION"),
        (["recipe.yaml", "-o", "o.sand"], "none of a checkpoint folder"),
        (["model.py"], "-o/--output"),
    ],
    ids=["no source", "no folder for the output", "unknown device", "no recipe", "data", "odd source", "no output"],
)
def test_refuses(arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in here.iterdir())
    result = sanderling(capsys, "compile", *arguments)
    assert result.code == 2
    assert message in result.err
    assert sorted(path.name for path in here.iterdir() if path.name != "__pycache__") == before


@pytest.mark.parametrize("library", ["torch", "onnx", "onnxscript", "safetensors"])
def test_says_what_to_install(
    library: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name == library else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    result = sanderling(capsys, "compile", "model.py", "-o", "o.sand")
    assert result.code == 2
    assert f"needs {library}: pip install 'sanderling[compile]'" in result.err
