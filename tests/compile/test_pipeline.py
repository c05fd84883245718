"""The whole way: every kind of source to a bundle that answers as the source does, and what stays when it fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from dual_encoders import clip
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator
from tiny import RECIPE, adapted_tiny, compile_tiny, tiny_data
from tiny_models import (
    QUICK,
    adapted_loop,
    adapted_onnx,
    brief,
    compile_quick,
    looped,
    mlp,
    onnx_model,
    reduce_recipe,
    rows_data,
    with_part,
)
from tiny_tokenizers import bpe, data
from torch import Tensor, nn

import sanderling
from sanderling import lookup, machine
from sanderling.budget import Budget
from sanderling.bundle import MEASURED, Bundle
from sanderling.calibration.dataset import Data
from sanderling.compile.cache import Cache
from sanderling.compile.made_up import METRIC
from sanderling.compile.pipeline import compile_model
from sanderling.errors import (
    CheckpointError,
    DriftError,
    InputError,
    RecipeError,
    UnknownNameError,
    UnsupportedError,
    UserError,
)
from sanderling.manifest import FULL, Measured
from sanderling.session import load
from sanderling.targets import Refusal

ROUNDING = 1e-5
"""Outputs are of size 1; engines sum in another order than torch, which moves float32 by a few units of 1e-7."""

ADAPT_FILE = """
import torch
from sanderling.compile.architecture import Adapted, Part
from sanderling.spec import ArrayInput, Component, ModelSpec, TensorSpec
from torch import nn


class Scale(nn.Module):
    def forward(self, x):
        return x * 3.0


def adapt():
    x, y = (TensorSpec(name, "float32", ("batch", 8)) for name in "xy")
    given = ArrayInput("x", "float32", ("batch", 8))
    spec = ModelSpec("scale", (given,), (Component("c", (x,), (y,)),), outputs=("y",))
    return Adapted(spec, (Part("c", lambda _: Scale(), (torch.zeros(2, 8),)),), "fixed")
"""


def measured_of(path: Path) -> Measured:
    with Bundle.open(path) as bundle:
        bundle.verify()
        found = bundle.measured()
    assert found is not None
    return found


def members_of(path: Path) -> dict[str, bytes]:
    with Bundle.open(path) as bundle:
        return {name: bytes(bundle.read(name)) for name in bundle.names() if name != MEASURED}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def answer(path: Path, inputs: dict[str, Any]) -> dict[str, NDArray[Any]]:
    with load(path) as session:
        return session.run(inputs).outputs


class Told:
    """Remembers progress."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int]] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        self.lines.append((what, done, total))

    def reused(self) -> str:
        return next(what for what, _, _ in self.lines if "reused" in what)


# --- sources ---------------------------------------------------------------------------------------------------------


def test_an_adapted_model_answers_as_in_torch(tiny_bundle: Path) -> None:
    picture = tiny_data(1, seed=5).samples[0]["image"]
    part = adapted_tiny().parts[0]
    assert part.build is not None
    pixels = (torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
    with torch.inference_mode():
        scores, _ = part.build(None)(pixels)
    np.testing.assert_allclose(answer(tiny_bundle, {"image": picture})["scores"], scores, atol=ROUNDING)


def test_a_module_answers_as_in_torch_at_any_batch_and_keeps_its_mode(tmp_path: Path) -> None:
    module = nn.Sequential(mlp(), nn.Dropout(0.5)).train()
    module[0].eval()
    path = compile_quick(module, tmp_path, example_inputs={"x": torch.zeros(1, 8)})
    assert [part.training for part in module] == [False, True]
    rows = rows_data().samples[0]["x"].repeat(3, axis=0)
    with torch.inference_mode():
        wanted = module[0](torch.from_numpy(rows))
    np.testing.assert_allclose(answer(path, {"x": rows})["output"], wanted, atol=ROUNDING)
    measured = measured_of(path)
    assert measured.ladder.metric == METRIC
    assert "made-up" in METRIC
    assert [rung.graphs for rung in measured.ladder.rungs] == [{"model": FULL}]


def test_an_onnx_file_answers_as_its_evaluator_does(tmp_path: Path) -> None:
    onnx.save(onnx_model(), tmp_path / "softmax.onnx")
    path = compile_quick(tmp_path / "softmax.onnx", tmp_path)
    x = rows_data().samples[0]["x"]
    oracle = next(iter(ReferenceEvaluator(onnx_model()).run(None, {"x": x})))
    np.testing.assert_allclose(answer(path, {"x": x})["y"], oracle, atol=ROUNDING)
    assert measured_of(path).ladder.metric == METRIC


def test_a_file_with_adapt_is_compiled_again_when_its_source_changes(tmp_path: Path) -> None:
    source, x, told = tmp_path / "scale.py", rows_data().samples[0]["x"], Told()
    source.write_text(ADAPT_FILE)
    np.testing.assert_allclose(answer(compile_quick(source, tmp_path), {"x": x})["y"], 3 * x, rtol=1e-6)
    compile_quick(source, tmp_path, progress=told)
    assert told.reused().startswith("1 of 1 graphs reused")
    # Longer, too: Python tells a changed file by its time in seconds and its size.
    source.write_text(ADAPT_FILE.replace("x * 3.0", "x * 3.0 + 1.0"))
    path = compile_quick(source, tmp_path, progress=(again := Told()))
    assert again.reused().startswith("0 of 1 graphs reused")
    np.testing.assert_allclose(answer(path, {"x": x})["y"], 3 * x + 1, rtol=1e-6)


def test_a_hugging_face_folder_answers_as_hugging_face_does(tmp_path: Path) -> None:
    folder, tokenizer = tmp_path / "clip", bpe()
    model = clip(text={"vocab_size": 200, "eos_token_id": 1})
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(data(tokenizer))
    path = compile_quick(folder, tmp_path, recipe=reduce_recipe())
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = answer(path, {"image": pixels.numpy(), "text": "a red car"})
    ids = torch.tensor([tokenizer.encode("a red car").ids])
    with torch.no_grad():
        wanted = model(input_ids=ids, pixel_values=pixels)
    np.testing.assert_allclose(found["image_embeddings"], wanted.image_embeds, atol=ROUNDING)
    np.testing.assert_allclose(found["text_embeddings"], wanted.text_embeds, atol=ROUNDING)
    assert {"vision", "text"} == set(measured_of(path).placements)


# --- the same again --------------------------------------------------------------------------------------------------


def test_two_compiles_give_the_same_bytes_but_for_what_was_measured(tiny_folder: Path, tmp_path: Path) -> None:
    with brief():
        again = compile_tiny(tmp_path)  # with a cache of its own, so that nothing is reused
    assert members_of(again) == members_of(tiny_folder / "tiny.sand")


def test_a_second_compile_reuses_every_graph_and_says_so(tiny_folder: Path, tmp_path: Path) -> None:
    told = Told()
    with brief():
        again = compile_tiny(tmp_path, cache=Cache(tiny_folder / "cache"), progress=told)
    assert told.reused() == "3 of 3 graphs reused from an earlier compile"
    assert members_of(again) == members_of(tiny_folder / "tiny.sand")


def test_a_changed_weight_remakes_only_the_graphs_of_its_component(tmp_path: Path) -> None:
    compile_quick(adapted_loop(), tmp_path)
    other = looped(seed=1)[1]
    changed = with_part(adapted_loop(), "decode", build=lambda _: other)
    compile_quick(changed, tmp_path, progress=(told := Told()))
    assert told.reused().startswith("1 of 2 graphs reused")


# --- engines against the source --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model for both engines, compared at half the tokens and at as many tokens as heads."""
    adapted = with_part(adapted_tiny(), "vision", probe=(2,))
    options = {
        "evaluation": tiny_data(3),
        "recipe": reduce_recipe("onnxruntime", "openvino", reducers=("saliency", "merge")),
        "cache": Cache(tiny_folder / "cache"),
    }
    return compile_quick(adapted, tmp_path_factory.mktemp("both"), **options)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_engines_equal_torch_at_every_compared_setting(both: Path, target: str) -> None:
    rows = [row for row in measured_of(both).drift if row.target == target]
    assert all(row.max_abs <= row.bound for row in rows)
    compared = {(row.graphs["vision"], row.settings["tokens.image"], row.output) for row in rows}
    outputs = ("scores", "image_kept")
    settings = [(FULL, 16), *((f"{name}@1", tokens) for name in ("saliency", "merge") for tokens in (2, 8))]
    assert compared == {(*setting, output) for setting in settings for output in outputs}


def test_every_graph_runs_a_way_that_was_raced(both: Path) -> None:
    measured = measured_of(both)
    for graph, placement in measured.placements["vision"].items():
        raced = {cost.placement for cost in measured.placement_costs if cost.graph == graph}
        assert {way.target for way in raced} == {"onnxruntime", "openvino"}
        assert placement in raced


def test_the_last_rung_is_the_full_model(both: Path) -> None:
    last = measured_of(both).ladder.rungs[-1]
    assert (last.graphs, last.settings) == ({"vision": FULL}, {"tokens.image": 16})
    assert last.quality.score == pytest.approx(1.0)


def test_drift_past_the_bound_is_an_error_that_names_target_and_output(tmp_path: Path) -> None:
    with pytest.raises(DriftError, match=r"onnxruntime differs .* in 'y', bound 0 .* classify/full") as caught:
        compile_quick(adapted_onnx(bound=0.0), tmp_path)
    assert caught.value.exit_code == 1
    assert not (tmp_path / "out.sand").exists()


def test_outputs_that_become_infinite_are_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(self: Any, inputs: Any) -> dict[str, NDArray[Any]]:
        return {"y": np.full((1, 64), np.nan, np.float32)}

    monkeypatch.setattr("sanderling.targets.onnxruntime.OnnxRuntimeEngine.run", overflow)
    with pytest.raises(DriftError, match="by nan in 'y'"):
        compile_quick(adapted_onnx(), tmp_path)


def test_an_operator_a_target_lacks_is_refused_with_component_and_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = Refusal("Softmax", "node_3", "it has no softmax")
    monkeypatch.setattr("sanderling.targets.onnxruntime.OnnxRuntime.refusals", lambda self, graph: (refusal,))
    with pytest.raises(UnsupportedError, match="onnxruntime cannot run component 'classify': operator Softmax at node"):
        compile_quick(adapted_onnx(), tmp_path)


def test_an_operator_nobody_knows_is_refused_with_component_and_operator(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sing", ["x"], ["y"], name="singer", domain="my.ops")]
    with pytest.raises(UnsupportedError, match=r"'classify'.*Sing"):
        compile_quick(adapted_onnx(nodes=nodes), tmp_path)


# --- what it is given ------------------------------------------------------------------------------------------------


class Words(nn.Module):
    """Returns something other than tensors."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"x": x}


@pytest.mark.parametrize(
    ("source", "examples", "error", "message"),
    [
        (mlp(), None, InputError, "needs example_inputs"),
        (mlp(), {"x": torch.tensor(1.0)}, InputError, r"'x' is \[\], expected a torch tensor whose first axis"),
        (mlp(), {"x": np.zeros((1, 8))}, InputError, "'x' is ndarray, expected a torch tensor"),
        (Words(), {"x": torch.zeros(1, 8)}, InputError, "Words returned dict, expected a tensor or a tuple"),
        (42, None, InputError, "the source is int, expected a path"),
        ("somewhere", None, CheckpointError, "somewhere does not exist"),
        (adapted_onnx(), {"x": torch.zeros(1, 8)}, InputError, "example_inputs go with an nn.Module"),
    ],
    ids=["no examples", "scalar", "array", "dict", "number", "no file", "examples for no module"],
)
def test_sources_that_cannot_be_used_are_refused(
    source: Any, examples: Any, error: type[UserError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        compile_quick(source, tmp_path, example_inputs=examples)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"x": np.full((1, 8), np.nan, np.float32)}, "'x' has 8 of 8 values that are NaN"),
        ({"x": np.zeros((1, 9), np.float32)}, r"'x' is float32 \[1, 9\], expected float32 \[batch, 8\]"),
        ({"x": np.zeros((1, 8))}, r"'x' is float64 \[1, 8\]"),
        ({}, "sample 0 has inputs none; model 'ready' takes x"),
        ({"x": np.zeros((1, 8), np.float32), "z": 1}, "sample 0 has inputs x, z"),
    ],
    ids=["nan", "shape", "dtype", "missing", "unknown"],
)
def test_samples_that_do_not_fit_are_refused(sample: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        compile_quick(adapted_onnx(), tmp_path, evaluation=Data([sample]))


def test_a_later_sample_with_nan_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    samples = [*rows_data().samples, {"x": np.full((1, 8), np.nan, np.float32)}]
    with pytest.raises(InputError, match="NaN"):
        compile_quick(adapted_onnx(), tmp_path, evaluation=Data(samples))
    assert names_in(tmp_path) == ["cache"]


@pytest.mark.parametrize("score", [float("nan"), 95.0, -0.1])
def test_scores_outside_0_to_1_are_refused(score: float, tmp_path: Path) -> None:
    given = replace(rows_data(), expected=(0, 0, 0), score=lambda outputs, expected: score, metric="accuracy")
    with pytest.raises(InputError, match=rf"the score of sample 0 is {score}, expected 0 \(wrong\) to 1"):
        compile_quick(adapted_onnx(), tmp_path, evaluation=given)


def test_a_model_with_nan_weights_is_refused(tmp_path: Path) -> None:
    module = mlp()
    with torch.no_grad():
        module.get_parameter("2.bias")[0] = torch.nan
    with pytest.raises(CheckpointError, match="'model' of the source model answers with NaN in 'output'"):
        compile_quick(module, tmp_path, example_inputs={"x": torch.zeros(1, 8)})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device": "abacus"}, UnknownNameError, "unknown device 'abacus'"),
        ({"recipe": replace(QUICK, targets=("onnxrutime",))}, UnknownNameError, "did you mean 'onnxruntime'"),
        ({"recipe": reduce_recipe()}, RecipeError, "pass 'reduce' cannot run: model 'ready' has no site"),
    ],
    ids=["device", "target", "pass"],
)
def test_options_that_cannot_be_followed_are_refused(
    options: dict[str, Any], error: type[UserError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        compile_quick(adapted_onnx(), tmp_path, **options)


def test_a_target_that_is_not_installed_is_refused_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanderling.targets.openvino.OpenVino.missing", lambda self: "pip install openvino")
    with pytest.raises(UnsupportedError, match="pip install openvino"):
        compile_quick(adapted_onnx(), tmp_path, recipe=replace(QUICK, targets=("onnxruntime", "openvino")))
    path = compile_quick(adapted_onnx(), tmp_path, recipe=replace(QUICK, targets=()))
    assert measured_of(path).placements["classify"]["full"].target == "onnxruntime"


@pytest.mark.parametrize(("place", "message"), [("", "this is a folder"), ("absent/out.sand", "there is no folder")])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(place: str, message: str, tmp_path: Path) -> None:
    told = Told()
    with pytest.raises(UserError, match=message):
        compile_model(adapted_onnx(), tmp_path / place, recipe=QUICK, cache=Cache(tmp_path / "cache"), progress=told)
    assert not told.lines
    assert not names_in(tmp_path)


# --- what stays when it fails ----------------------------------------------------------------------------------------


@pytest.fixture
def occupied(tmp_path: Path) -> Path:
    """A folder with a cache that has every graph, and an older file where the bundle goes."""
    compile_quick(adapted_onnx(), tmp_path)
    (tmp_path / "out.sand").write_bytes(b"older")
    return tmp_path


def assert_untouched(folder: Path) -> None:
    assert names_in(folder) == ["cache", "out.sand"]
    assert (folder / "out.sand").read_bytes() == b"older"


@pytest.mark.parametrize("stage", ["lowering", "1 of 1 graphs reused", "comparing", "choosing", "measuring"])
def test_ctrl_c_leaves_everything_as_it_was(stage: str, occupied: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what.startswith(stage):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_quick(adapted_onnx(), occupied, progress=stop)
    assert_untouched(occupied)


def test_a_metric_that_raises_leaves_everything_as_it_was(occupied: Path) -> None:
    def score(outputs: dict[str, NDArray[Any]], expected: Any) -> float:
        raise ZeroDivisionError("the user's own")

    given = replace(rows_data(), expected=(0, 0, 0), score=score, metric="accuracy")
    with pytest.raises(ZeroDivisionError, match="the user's own"):
        compile_quick(adapted_onnx(), occupied, evaluation=given)
    assert_untouched(occupied)


@pytest.mark.parametrize("write", [1, 2], ids=["before measuring", "at the end"])
def test_a_full_disk_leaves_everything_as_it_was(write: int, occupied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _full_at(write))
    with pytest.raises(
        UserError, match=r"the disk or your quota is full: \d\.\d+ MB are needed .* Nothing was changed"
    ):
        compile_quick(adapted_onnx(), occupied)
    assert_untouched(occupied)


def _full_at(number: int) -> Callable[[int], None]:
    calls = iter(range(1, 100))

    def fsync(_: int) -> None:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fsync


def test_success_replaces_the_older_file_whole(occupied: Path) -> None:
    compile_quick(adapted_onnx(), occupied)
    assert names_in(occupied) == ["cache", "out.sand"]
    measured_of(occupied / "out.sand")


# --- every knob of the recipe turns something ------------------------------------------------------------------------


def manifest_of(path: Path) -> Any:
    with Bundle.open(path) as bundle:
        return bundle.manifest()


def test_the_recipe_s_budget_is_the_one_that_sessions_keep(tmp_path: Path) -> None:
    path = compile_quick(adapted_onnx(), tmp_path, recipe=replace(QUICK, budget=Budget(latency_ms=1e-6)))
    with load(path) as session, pytest.raises(sanderling.BudgetTooSmallError):
        session.run(rows_data().samples[0])
    with load(compile_quick(adapted_onnx(), tmp_path)) as session:
        assert session.run(rows_data().samples[0]).receipt.asked == Budget()


def test_threads_are_recorded_tried_and_used(tmp_path: Path) -> None:
    path = compile_quick(adapted_onnx(), tmp_path, recipe=replace(QUICK, threads=3))
    measured = measured_of(path)
    assert measured.threads == 3
    assert {cost.placement.threads for cost in measured.placement_costs} == {1, 3}
    assert measured.placements["classify"]["full"].threads in (1, 3)
    assert '"threads": 3' in manifest_of(path).provenance.recipe


def test_targets_decide_the_variants(tmp_path: Path) -> None:
    for targets in (("openvino",), ("openvino", "onnxruntime")):
        path = compile_quick(adapted_onnx(), tmp_path, recipe=replace(QUICK, targets=targets))
        assert [variant.target for variant in manifest_of(path).graphs[0].variants] == list(targets)


def test_the_seed_decides_the_made_up_inputs_and_data_replaces_them(tmp_path: Path) -> None:
    def golden(**options: Any) -> bytes:
        return members_of(compile_quick(adapted_onnx(), tmp_path, **options))["golden/input/0_x.npy"]

    first, second = golden(), golden(recipe=replace(QUICK, seed=1))
    assert first != second
    given = {"evaluation": rows_data(seed=7)}
    assert golden(**given) == golden(**given, recipe=replace(QUICK, seed=1)) not in (first, second)
    assert golden(**given, calibration=rows_data(seed=8)) != golden(**given)


def test_no_passes_means_no_levers_and_none_means_the_default(tiny_folder: Path, tmp_path: Path) -> None:
    given = {"evaluation": tiny_data(2), "cache": Cache(tiny_folder / "cache")}
    path = compile_quick(adapted_tiny(), tmp_path, recipe=replace(RECIPE, passes=()), **given)
    assert [graph.name for graph in manifest_of(path).graphs] == [FULL]
    told: list[str] = []

    def stop(what: str, done: int, total: int) -> None:
        told.append(what)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_quick(adapted_tiny(), tmp_path, recipe=replace(RECIPE, passes=None), progress=stop, **given)
    assert told[0].startswith("reduce: 8 graphs with a token lever: random@0, grid@0, saliency@0, merge@0, random@1")


def test_a_device_named_in_spite_of_the_machine_is_marked_as_stood_in_for(tmp_path: Path) -> None:
    here = machine.fitting_device()
    other = next(name for name in lookup.names("device") if name != here)
    for device, stand_in in ((here, False), (other, True)):
        measured = measured_of(compile_quick(adapted_onnx(), tmp_path, device=device))
        assert (measured.device, measured.stand_in) == (device, stand_in)
        assert measured.machine == machine.describe()


def test_provenance_tells_the_data_apart(tmp_path: Path) -> None:
    def digest(**options: Any) -> str:
        return str(manifest_of(compile_quick(adapted_onnx(), tmp_path, **options)).provenance.data)

    digests = [
        digest(),
        digest(evaluation=rows_data()),
        digest(calibration=rows_data(seed=1)),
        digest(evaluation=rows_data(), calibration=rows_data(seed=1)),
    ]
    assert digests[0] == ""
    assert len(set(digests)) == 4


def test_the_effective_recipe_and_versions_are_written_down(tiny_bundle: Path) -> None:
    provenance = manifest_of(tiny_bundle).provenance
    assert '"fractions": [0.5, 0.25]' in provenance.recipe
    assert '"targets": ["onnxruntime"]' in provenance.recipe
    assert torch.__version__.startswith(provenance.versions["torch"])
    assert provenance.versions["sanderling"] == sanderling.__version__
