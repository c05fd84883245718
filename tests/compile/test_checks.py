"""What a compile is given is checked before any long work, and all that is wrong is said at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import adapted_tiny
from tiny_models import adapted_loop, adapted_onnx, rows_data, with_part
from tiny_tokenizers import data, words

from sanderling.calibration.dataset import Data
from sanderling.compile.architecture import Adapted
from sanderling.compile.checks import check_adapted, check_output, check_samples
from sanderling.errors import InputError, InternalError, RecipeError, UserError
from sanderling.spec import Loop, TextInput


def with_text(files: dict[str, bytes]) -> Adapted:
    """The ready model with a text beside its array."""
    adapted = adapted_onnx()
    text = TextInput("text", "ids", "", "tokenizer.json", 8, 0, "longest")
    return replace(adapted, spec=replace(adapted.spec, inputs=(*adapted.spec.inputs, text)), files=files)


@pytest.mark.parametrize(
    "make", [adapted_tiny, adapted_onnx, adapted_loop, lambda: with_text({"tokenizer.json": data(words())})]
)
def test_whole_models_pass(make: Callable[[], Adapted]) -> None:
    check_adapted(make())


WRONG: dict[str, tuple[Callable[[], Adapted], str]] = {
    "no parts": (
        lambda: replace(adapted_onnx(), parts=()),
        "it has parts for nothing, expected one for each of classify",
    ),
    "a part too many": (
        lambda: replace(adapted_loop(), parts=(*adapted_loop().parts, adapted_loop().parts[0])),
        "it has parts for denoise, decode, denoise, expected one for each of denoise, decode",
    ),
    "neither module nor graph": (
        lambda: with_part(adapted_onnx(), "classify", graph=b""),
        "part 'classify' needs either `build` or `graph`, and not both",
    ),
    "both": (lambda: with_part(adapted_tiny(), "vision", graph=b"x"), "needs either `build` or `graph`"),
    "no example": (
        lambda: with_part(adapted_onnx(), "classify", example=()),
        "part 'classify' has 0 example tensors for 1 inputs",
    ),
    "example of another shape": (
        lambda: with_part(adapted_onnx(), "classify", example=(torch.zeros(2, 9),)),
        r"the example of part 'classify' for 'x' is float32 \[2, 9\], expected float32 \['batch', 8\]",
    ),
    "example of another rank": (
        lambda: with_part(adapted_onnx(), "classify", example=(torch.zeros(2, 8, 1),)),
        r"is float32 \[2, 8, 1\], expected float32",
    ),
    "example of another dtype": (
        lambda: with_part(adapted_onnx(), "classify", example=(torch.zeros(2, 8, dtype=torch.float64),)),
        r"is float64 \[2, 8\], expected float32",
    ),
    "an example that would fix the batch": (
        lambda: with_part(adapted_onnx(), "classify", example=(torch.zeros(1, 8),)),
        r"each named axis of \['batch', 8\] needs a length of at least 2 to stay free",
    ),
    "probe outside the lever": (
        lambda: with_part(adapted_tiny(), "vision", probe=(4, 17)),
        "part 'vision' has probe 17, expected 1 to 16",
    ),
    "no outputs": (
        lambda: replace(adapted_onnx(), spec=replace(adapted_onnx().spec, outputs=())),
        "it names no outputs",
    ),
    "no tokenizer": (lambda: with_text({}), "its files lack 'tokenizer.json'"),
    "no tokenizer in the file": (lambda: with_text({"tokenizer.json": b"{}"}), "'tokenizer.json' is no tokenizer"),
    "a file for nothing": (
        lambda: replace(adapted_onnx(), files={"manifest.json": b""}),
        "its file 'manifest.json' belongs to no input",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_models_that_do_not_fit_together_are_refused(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(RecipeError, match=rf"model '\w+' is not adapted rightly: .*{message}"):
        check_adapted(make())


def test_everything_wrong_is_said_at_once() -> None:
    wrong = replace(with_part(adapted_onnx(), "classify", example=()), files={"a": b"", "b": b""})
    with pytest.raises(RecipeError, match=r"0 example tensors.*'a' belongs to no input.*'b' belongs to no input"):
        check_adapted(wrong)


def test_a_loop_that_carries_what_is_not_there_is_no_legal_model() -> None:
    spec = adapted_loop().spec
    for carry in (("picture", "state"), ("next_state", "picture")):
        looped = replace(spec.components[0], loop=Loop("steps", (carry,)))
        with pytest.raises(InternalError, match=f"'denoise' carries '{carry[0]}' to '{carry[1]}', which"):
            replace(spec, components=(looped, spec.components[1]))


def test_samples_need_every_input_of_the_model_and_no_other() -> None:
    model, x = adapted_loop().spec, np.zeros((1, 8), np.float32)
    check_samples(model, Data([{"state": x, "condition": x}] * 2))
    for sample, message in [
        ({"state": x}, "sample 1 has inputs state; model 'generator' takes condition, state, and a sample needs all"),
        ({"state": x, "condition": x, "extra": x}, "sample 1 has inputs condition, extra, state"),
    ]:
        with pytest.raises(InputError, match=message):
            check_samples(model, Data([{"state": x, "condition": x}, sample]))
    check_samples(adapted_onnx().spec, rows_data())


def test_places_where_a_bundle_can_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_output(tmp_path / "new.sand")
    (tmp_path / "old.sand").write_bytes(b"")
    check_output(tmp_path / "old.sand")
    monkeypatch.chdir(tmp_path)
    check_output(Path("new.sand"))


def test_places_where_no_bundle_can_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"this is a folder; give the path of a file, such as .*model\.sand"):
        check_output(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "absent" / "out.sand", tmp_path / "file" / "out.sand"):
        with pytest.raises(UserError, match=r"there is no folder .*; make it, or choose another"):
            check_output(place)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the superuser may write anywhere
    with pytest.raises(UserError, match="you may not write to"):
        check_output(tmp_path / "out.sand")
