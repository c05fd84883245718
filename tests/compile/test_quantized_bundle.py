"""A bundle with number formats: all are there, the fast and good one is used, and its loss is walked to its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import sanderling
from tiny import adapted_tiny, tiny_data
from tiny_models import brief

from sanderling import load
from sanderling.bundle import Bundle
from sanderling.calibration.dataset import Data
from sanderling.compile.cache import Cache
from sanderling.compile.passes.quantize import Quantize
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import Recipe
from sanderling.manifest import FULL, Measured
from sanderling.selftest import AS_PLACED

REDUCE = ("reduce", Reduce(reducers=("saliency",), layers=(1,), fractions=(0.5,)))
RECIPE = Recipe(passes=(REDUCE, ("quantize", Quantize(samples=9))), targets=("onnxruntime",), threads=1)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in which int8 is taken for the fastest, so that it is used whatever this machine is good at."""
    folder = tmp_path_factory.mktemp("quantized")
    data: Data = tiny_data(9)
    with brief(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sanderling.calibration.admit.WORTH", 0.0)
        patch.setattr("sanderling.calibration.choose.mean_costs", lambda rows: {r.placement: _order(r) for r in rows})
        options = {"evaluation": data, "recipe": RECIPE, "cache": Cache(folder / "cache")}
        return compile_model(adapted_tiny(), folder / "q.sand", **options)  # type: ignore[arg-type]


def _order(row: object) -> float:
    return 2.0 if row.placement.format == "float32" else 1.0  # type: ignore[attr-defined]


def measured(path: Path) -> Measured:
    with Bundle.open(path) as bundle:
        found = bundle.measured()
    assert found is not None
    return found


def test_every_graph_is_there_in_every_format_and_weights_are_shared(quantized: Path) -> None:
    with Bundle.open(quantized) as bundle:
        graphs = bundle.manifest().graphs
        for graph in graphs:
            assert [v.format for v in graph.variants] == ["float32", "int8_dynamic", "int8_static"]
        members = [{w.member for w in v.weights if w.dtype == "int8"} for g in graphs for v in g.variants]
    int8 = [found for found in members if found]
    assert len(int8) == 4
    assert int8[0] & int8[2], "the reduced graph uses the same quantized weights"


def test_the_format_is_used_and_decided_with_both_qualities(quantized: Path) -> None:
    found = measured(quantized)
    kept = next(d for d in found.formats if d.verdict == "kept")
    assert kept.format.startswith("int8")
    assert {way.format for way in found.placements["vision"].values()} == {kept.format}
    assert kept.quality is not None
    assert kept.float32_quality is not None
    assert kept.float32_quality.score - kept.quality.score <= RECIPE.goals.format_drop_max
    assert found.source_quality is not None


def test_the_session_answers_in_the_format_close_to_float32(quantized: Path) -> None:
    picture = tiny_data(1, seed=5).samples[0]
    with load(quantized) as session:
        assert session.is_lossy({"vision": FULL})
        int8 = session.run(picture).outputs["scores"]
    found = measured(quantized)
    plain = {c: {g: replace(w, format="float32") for g, w in graphs.items()} for c, graphs in found.placements.items()}
    from sanderling.session import Session

    with Session(Bundle.open(quantized), measured=replace(found, placements=plain)) as session:
        assert not session.is_lossy({"vision": FULL})
        exact = session.run(picture).outputs["scores"]
    assert 0 < np.abs(int8 - exact).max() < 0.1


def test_verify_holds_a_lossy_bundle_against_what_was_recorded(
    quantized: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = [row for row in measured(quantized).drift if row.target == AS_PLACED]
    assert recorded
    assert all(row.max_abs < row.bound for row in recorded)
    assert sanderling(capsys, "verify", quantized, "--run").code == 0


def test_compare_walks_the_layers(quantized: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = sanderling(capsys, "compare", quantized, "--layers", "vision", "--format", "int8_static", "--bound", "0.9")
    assert kept.code == 0
    assert "every tensor keeps a cosine of 0.9" in kept.out
    strict = ("compare", quantized, "--layers", "vision", "--format", "int8_static", "--bound", "0.9999999")
    drifts = sanderling(capsys, *strict)
    assert drifts.code == 1
    assert "drifts first at" in drifts.out
    assert "--exclude '" in drifts.out
    assert sanderling(capsys, *strict, "--json").json["exclude"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layers", "vision"), "needs --format NAME"),
        (("--layers", "visoin", "--format", "int8_static"), "did you mean 'vision'"),
        (("--layers", "vision", "--format", "int8_statik"), "did you mean 'int8_static'"),
        (("--layers", "vision", "--format", "int8_static", "--bound", "1.5"), "expected a cosine"),
        (("--format", "int8_static"), "give --layers COMPONENT too"),
    ],
)
def test_walks_that_cannot_be_made_are_refused(
    quantized: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    result = sanderling(capsys, "compare", quantized, *options)
    assert result.code == 2
    assert message in result.err
