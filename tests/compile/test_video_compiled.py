"""Video encoders through the whole way: bundles answer as torch does, and TensorRT's rules hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from dual_encoders import build, reduce_at
from tiny_models import brief
from videos import FAMILIES, FRAMES, PROBES, UNITS, classifier, clip

from sanderling.calibration.dataset import Data
from sanderling.compile.architecture import Adapted
from sanderling.compile.cache import Cache
from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.export import export
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import Recipe
from sanderling.errors import InputError
from sanderling.session import load
from sanderling.targets.rules.tensorrt import refusals

# Scores are of size 1 to 4; engines sum in another order than torch.
ROUNDING = 5e-5


def adapted_in(folder: Path, family: str) -> Adapted:
    """Return a tiny classifier of a family, adapted from a folder."""
    classifier(family, num_hidden_layers=2).save_pretrained(folder)
    return adapt_folder(folder)


def compiled(folder: Path, family: str, target: str) -> Path:
    """Return the bundle of the checkpoint in a folder, with one reducing graph."""
    data = Data([{"pixel_values": clip(FRAMES[family], 1).numpy()} for _ in range(2)])
    recipe = Recipe(
        passes=(("reduce", Reduce(reducers=("saliency",), layers=(1,), fractions=(0.5, 0.25))),),
        targets=(target,),
        threads=1,
    )
    with brief():
        return compile_model(
            folder, folder / f"{target}.sand", evaluation=data, recipe=recipe, cache=Cache(folder / "cache")
        )


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("family", FAMILIES)
def test_bundles_answer_as_torch_does(family: str, target: str, tmp_path: Path) -> None:
    adapted = adapted_in(tmp_path, family)
    lever = adapted.spec.levers[0].name
    pixels = clip(FRAMES[family], 2)
    part = build(adapted, "video", reduce_at("saliency", 1))
    with load(compiled(tmp_path, family, target)) as session, torch.no_grad():
        for keep in (UNITS[family], UNITS[family] // 2, PROBES[family]):
            wanted, wanted_kept = part(pixels, torch.tensor(keep))
            plan = session.at({lever: keep}, {"video": "saliency@1"})
            came = session.run({"pixel_values": pixels.numpy()}, plan=plan)
            np.testing.assert_allclose(came.outputs["class_scores"], wanted, atol=ROUNDING, rtol=0)
            np.testing.assert_array_equal(came.outputs[adapted.spec.outputs[1]], wanted_kept)
            assert came.receipt.kept == {lever: (keep, UNITS[family])}


def test_a_clip_that_ends_early_is_refused(tmp_path: Path) -> None:
    adapted_in(tmp_path, "timesformer")
    with load(compiled(tmp_path, "timesformer", "onnxruntime")) as session:
        for frames in (FRAMES["timesformer"] - 1, 1):
            with pytest.raises(InputError, match=f"{frames}.*{FRAMES['timesformer']}"):
                session.run({"pixel_values": clip(frames, 1).numpy()})


@pytest.mark.parametrize(("family", "layer"), [("videomae", 0), ("vivit", 1), ("timesformer", 0), ("timesformer", 1)])
def test_graphs_keep_to_the_rules_of_tensorrt(family: str, layer: int, tmp_path: Path) -> None:
    adapted = adapted_in(tmp_path, family)
    part = build(adapted, "video", reduce_at("saliency", layer))
    levers = {adapted.spec.levers[0].name: 2}
    graph = export(part, adapted.spec.component("video"), adapted.parts[0].example, levers)
    assert refusals(onnx.load_model_from_string(graph)) == ()
