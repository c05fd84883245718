"""Golden cases: the right settings, the source's own answers, and members a bundle can hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from PIL import Image
from tiny import adapted_tiny, tiny_data
from tiny_models import adapted_loop, adapted_onnx, looped, onnx_model, rows_data, with_part
from tiny_tokenizers import data, words
from torch import Tensor, nn

from sanderling.bundle import Bundle, write_bundle
from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.golden import make_golden
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.work import Work, begin
from sanderling.errors import CheckpointError, InputError, RecipeError
from sanderling.manifest import FULL, Golden
from sanderling.npy import parse_npy
from sanderling.spec import ArrayInput, Component, Lever, ModelSpec, TensorSpec, TextInput

REDUCE = Reduce(reducers=("saliency",), layers=(1,), fractions=(0.5,))


def reduced(adapted: Adapted) -> Work:
    return REDUCE.apply(begin(adapted)).work


def made(work: Work, sample: dict[str, Any]) -> tuple[Golden, dict[str, np.ndarray[Any, Any]]]:
    golden, members = make_golden(work, sample)
    return golden, {name: parse_npy(memoryview(content), name) for name, content in members.items()}


def test_cases_are_the_full_model_half_and_the_probes() -> None:
    work = reduced(with_part(adapted_tiny(), "vision", probe=(2, 16)))
    golden, arrays = made(work, tiny_data(1).samples[0])
    settings = [(case.graphs["vision"], case.settings["tokens.image"]) for case in golden.cases]
    assert settings == [(FULL, 16), ("saliency@1", 2), ("saliency@1", 8), ("saliency@1", 16)]
    assert len({member for case in golden.cases for member in case.outputs.values()}) == 8
    kept = [arrays[case.outputs["image_kept"]].shape[1] for case in golden.cases]
    assert kept == [16, 2, 8, 16]


def test_half_stays_inside_the_lever_s_range() -> None:
    adapted = adapted_tiny()
    spec = replace(adapted.spec, levers=(Lever("tokens.image", "tokens", 10, 16, 12),))
    golden, _ = made(reduced(replace(adapted, spec=spec)), tiny_data(1).samples[0])
    # The full graph has no lever, so its setting is the maximum, whatever the default is.
    assert [case.settings["tokens.image"] for case in golden.cases] == [16, 10]


def test_answers_are_the_module_s_own() -> None:
    sample = tiny_data(1).samples[0]
    golden, arrays = made(begin(adapted_tiny()), sample)
    pixels = torch.from_numpy((sample["image"] / np.float32(255) - np.float32(0.5)) / np.float32(0.25))
    build = adapted_tiny().parts[0].build
    assert build is not None
    with torch.inference_mode():
        scores, _ = build(None)(pixels.permute(2, 0, 1)[None])
    # Pixels are normalised in another order here.
    np.testing.assert_allclose(arrays[golden.cases[0].outputs["scores"]], scores, atol=1e-5)


def test_a_ready_graph_is_answered_by_onnx_s_own_evaluator() -> None:
    sample = rows_data().samples[0]
    golden, arrays = made(begin(adapted_onnx()), sample)
    wanted = next(iter(ReferenceEvaluator(onnx_model()).run(None, sample)))
    np.testing.assert_array_equal(arrays[golden.cases[0].outputs["y"]], wanted)
    assert golden.cases[0].bound == 1e-4


def test_loops_are_run_as_often_as_their_lever_says() -> None:
    rng = np.random.default_rng(0)
    sample = {name: rng.standard_normal((1, 8)).astype(np.float32) for name in ("state", "condition")}
    golden, arrays = made(begin(adapted_loop()), sample)
    assert [case.settings for case in golden.cases] == [{"steps": 8}, {"steps": 4}]
    assert [set(case.graphs.values()) for case in golden.cases] == [{FULL}, {FULL}]
    step, head = looped()
    with torch.inference_mode():
        state, condition = (torch.from_numpy(sample[name]) for name in ("state", "condition"))
        for _ in range(4):
            state = step(state, condition)
        np.testing.assert_array_equal(arrays[golden.cases[1].outputs["next_state"]], state)
        np.testing.assert_array_equal(arrays[golden.cases[1].outputs["picture"]], head(state))


@pytest.mark.parametrize("form", ["path", "PIL image", "array"])
def test_a_picture_of_any_form_is_kept_so_that_a_device_has_it(form: str, tmp_path: Path) -> None:
    picture = tiny_data(1).samples[0]["image"]
    Image.fromarray(picture).save(tmp_path / "picture.png")
    given = {"path": tmp_path / "picture.png", "PIL image": Image.fromarray(picture), "array": picture}[form]
    golden, arrays = made(begin(adapted_tiny()), {"image": given})
    kept = arrays[str(golden.inputs[0].member)]
    assert (kept.dtype, kept.shape) == ((np.uint8, (32, 32, 3)) if form == "array" else (np.float32, (1, 3, 32, 32)))
    wanted = made(begin(adapted_tiny()), {"image": picture})[1]
    again = made(begin(adapted_tiny()), {"image": kept})[1]
    for name in golden.cases[0].outputs.values():
        np.testing.assert_array_equal(arrays[name], wanted[name])
        np.testing.assert_array_equal(again[name], wanted[name])


def test_names_that_no_bundle_member_may_have_are_spelt_otherwise(tmp_path: Path) -> None:
    """TensorFlow's and torch's exporters write such names."""
    names = ("input:0", "/encoder/out", "onnx::Add 1")
    tensors = tuple(TensorSpec(name, "float32", ("batch", 2)) for name in names)
    component = Component("c", tensors[:1], tensors[1:])
    spec = ModelSpec("odd", (ArrayInput("input:0", "float32", ("batch", 2)),), (component,), outputs=names[1:])

    class Twice(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x + 1

    work = begin(Adapted(spec, (Part("c", lambda _: Twice(), (torch.zeros(2, 2),)),), ""))
    golden, members = make_golden(work, {"input:0": np.zeros((1, 2), np.float32)})
    write_bundle(tmp_path / "b.sand", members)
    with Bundle.open(tmp_path / "b.sand") as bundle:
        assert set(golden.cases[0].outputs.values()) <= set(bundle.names())
    assert len(members) == 3


def test_texts_are_kept_as_texts() -> None:
    ids = TensorSpec("ids", "int64", ("batch", "tokens"))
    mask = TensorSpec("mask", "int64", ("batch", "tokens"))
    spec = ModelSpec(
        "reader",
        (TextInput("text", "ids", "mask", "tokenizer.json", 8, 0, "max_tokens"),),
        (Component("read", (ids, mask), (TensorSpec("sum", "int64", ("batch",)),)),),
        outputs=("sum",),
    )

    class Sum(nn.Module):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return (ids * mask).sum(-1)

    example = torch.ones(2, 8, dtype=torch.int64)
    parts = (Part("read", lambda _: Sum(), (example, example)),)
    work = begin(Adapted(spec, parts, "", {"tokenizer.json": data(words())}))
    golden, arrays = made(work, {"text": "a red car"})
    assert (golden.inputs[0].text, golden.inputs[0].member) == ("a red car", None)
    assert arrays[golden.cases[0].outputs["sum"]] == sum(words().encode("a red car").ids)
    with pytest.raises(InputError, match="sample input 'text' is list, expected one text"):
        make_golden(work, {"text": ["a red car", "a car"]})


class Wrong(nn.Module):
    """Answers otherwise than described."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "came"),
    [
        (torch.zeros(1, 64, dtype=torch.float64), r"float64 \[1, 64\]"),
        (torch.zeros(1, 63), r"float32 \[1, 63\]"),
        (torch.zeros(64), r"float32 \[64\]"),
        ((torch.zeros(1, 64),) * 2, r"float32 \[1, 64\], float32 \[1, 64\]"),
        ({"y": torch.zeros(1, 64)}, "dict"),
        (None, "NoneType"),
    ],
    ids=["dtype", "length", "rank", "too many", "dict", "nothing"],
)
def test_a_part_that_answers_otherwise_than_described_is_refused(answer: Any, came: str) -> None:
    work = begin(with_part(adapted_onnx(), "classify", build=lambda _: Wrong(answer), graph=b""))
    with pytest.raises(
        RecipeError, match=rf"'classify' returned {came}; its outputs are described as float32 \['batch', 64"
    ):
        make_golden(work, rows_data().samples[0])


def test_nan_in_the_source_is_refused_and_infinity_is_not() -> None:
    def work(value: float) -> Work:
        return begin(
            with_part(adapted_onnx(), "classify", build=lambda _: Wrong(torch.full((1, 64), value)), graph=b"")
        )

    with pytest.raises(CheckpointError, match="'classify' of the source model answers with NaN in 'y'"):
        make_golden(work(float("nan")), rows_data().samples[0])
    make_golden(work(float("-inf")), rows_data().samples[0])
