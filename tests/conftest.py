"""What several test files share: a bundle compiled once, and one whose measurements are made up and never change."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

# Before NumPy and torch are loaded, which read it then: handing work of tiny models to a second thread costs more than
# the work, many times more while something else is running.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from sanderling.bundle import MEASURED, Bundle, replace_member
from sanderling.codec import to_json
from sanderling.ladder import Cost, Ladder, Quality, Rung
from sanderling.manifest import Trial


@pytest.fixture(scope="session")
def tiny_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.sand`, compiled from `tiny.adapted_tiny`, and the `cache` it was compiled with.

    The cache outlives the run: exporting takes a dozen seconds, and its keys change with everything that goes in.
    """
    from tiny import compile_tiny

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "cache").symlink_to(request.config.cache.mkdir("sanderling"), target_is_directory=True)
    compile_tiny(folder)
    return folder


@pytest.fixture
def tiny_bundle(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the compiled tiny bundle, to do anything with."""
    return Path(shutil.copy(tiny_folder / "tiny.sand", tmp_path))


@pytest.fixture
def laddered(tiny_bundle: Path) -> Path:
    """The tiny bundle with a made-up ladder of three rungs: 2, 4 and 10 ms at p50, quality 0.8, 0.9 and 1."""
    rungs = (_rung("random@1", 4, 2.0, 0.8), _rung("saliency@1", 8, 4.0, 0.9), _rung("full", 16, 10.0, 1.0))
    trials = tuple(Trial(rung, "rung") for rung in rungs)
    with Bundle.open(tiny_bundle) as bundle:
        measured = bundle.measured()
    assert measured is not None
    measured = dataclasses.replace(measured, ladder=Ladder("accuracy", rungs), trials=trials)
    replace_member(tiny_bundle, MEASURED, to_json(measured))
    return tiny_bundle


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture file of the first sample that the tiny bundle was measured on."""
    from PIL import Image
    from tiny import tiny_data

    path = tmp_path / "picture.png"
    Image.fromarray(tiny_data(1).samples[0]["image"]).save(path)
    return path


def _rung(graph: str, tokens: int, p50_ms: float, score: float) -> Rung:
    cost = Cost(p50_ms, 1.5 * p50_ms, 2 * p50_ms, 20)
    quality = Quality(score, score - 0.05, min(1.0, score + 0.05), 20)
    return Rung({"tokens.image": tokens}, {"vision": graph}, cost, {"vision": cost}, 100.0 + tokens, quality)
