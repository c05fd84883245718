"""Preparation files of checkpoint folders; Hugging Face's processors, read from the same folder, are the oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dual_encoders import siglip
from PIL import Image
from tiny_tokenizers import bpe, data, words
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.preparation import ImageDefaults, image_input, text_input
from sanderling.compile.settings import Settings
from sanderling.errors import CheckpointError
from sanderling.inputs import prepare_image
from sanderling.spec import ArrayInput, TextInput

CLIP = ImageDefaults(crop=True, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))
SIGLIP = ImageDefaults(crop=False, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SIDE = 24
TEXT = Settings("text_config", {"vocab_size": 200, "max_position_embeddings": 16, "pad_token_id": 0})
SQUARE = {"height": SIDE, "width": SIDE}

FORMS: dict[str, tuple[ImageDefaults, dict[str, Any]]] = {
    "clip now": (CLIP, {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}),
    "clip of 2022": (CLIP, {"size": SIDE, "crop_size": SIDE, "resample": 3, "do_resize": True, "do_center_crop": True}),
    "clip, larger before the crop": (CLIP, {"size": {"shortest_edge": 29}, "crop_size": SQUARE, "resample": 2}),
    "clip, stretched": (CLIP, {"size": SQUARE, "do_center_crop": False}),
    "clip, stretched and crop of the same size": (CLIP, {"size": SQUARE, "crop_size": SQUARE}),
    "siglip now": (SIGLIP, {"size": SQUARE, "resample": 3}),
    "siglip, bilinear, other numbers": (
        SIGLIP,
        {
            "size": SQUARE,
            "resample": 2,
            "image_mean": [0.1, 0.2, 0.3],
            "image_std": [0.4, 0.5, 0.6],
            "rescale_factor": 0.01,
        },
    ),
    "not scaled": (SIGLIP, {"size": SQUARE, "do_rescale": False}),
    "not normalised": (SIGLIP, {"size": SQUARE, "do_normalize": False}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(31, 50), (50, 31), (24, 24)])
def test_pictures_are_prepared_as_hugging_face_does(form: str, shape: tuple[int, int], tmp_path: Path) -> None:
    defaults, content = FORMS[form]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    family = CLIPImageProcessorPil if defaults.crop else SiglipImageProcessorPil
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    wanted = family.from_pretrained(tmp_path)(image, return_tensors="np")["pixel_values"]
    came = prepare_image(image_input(tmp_path, SIDE, defaults), image)
    # Relative to the largest value, because unscaled pixels reach 255.
    assert np.abs(came - wanted).max() <= 1e-6 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize(("defaults", "resize"), [(CLIP, "shortest"), (SIGLIP, "exact")])
def test_without_a_file_the_published_defaults_hold(defaults: ImageDefaults, resize: str, tmp_path: Path) -> None:
    spec = image_input(tmp_path, SIDE, defaults)
    assert (spec.resize, spec.resample, spec.scale, spec.mean) == (resize, "bicubic", 1 / 255, defaults.mean)
    assert (spec.height, spec.width) == (SIDE, SIDE)


def test_a_section_of_the_processor_file_counts(tmp_path: Path) -> None:
    content = {
        "image_processor": {"size": {"shortest_edge": 30, "longest_edge": None}, "crop_size": SQUARE, "do_pad": None}
    }
    (tmp_path / "processor_config.json").write_text(json.dumps(content))
    assert image_input(tmp_path, SIDE, CLIP).shortest == 30


def test_no_resizing_takes_only_the_right_size(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"do_resize": false}')
    assert image_input(tmp_path, SIDE, SIGLIP).resize == "none"


BAD_FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "another size than the model's": (
        {"size": {"height": 32, "width": 24}, "do_center_crop": False},
        "32 x 24 pixels.*24",
    ),
    "no fixed size": ({"size": {"shortest_edge": 24}, "do_center_crop": False}, "not something the runtime does"),
    "crop of a stretched picture": ({"size": {"height": 32, "width": 32}, "crop_size": SQUARE}, "not something the"),
    "crop alone": ({"do_resize": False}, "do_center_crop without do_resize"),
    "unknown filter": ({"resample": 5}, "resample is 5, expected one of"),
    "padding": ({"do_pad": True}, "do_pad pads pictures"),
    "two means": ({"image_mean": [0.5, 0.5]}, "need 3 numbers, one per channel, not 2"),
    "size of another type": ({"size": "large"}, "preprocessor_config.json: "),
    "crop size without a width": ({"crop_size": {"height": 24}}, "preprocessor_config.json: 'width'"),
}


@pytest.mark.parametrize("case", BAD_FORMS)
def test_bad_forms_are_refused(case: str, tmp_path: Path) -> None:
    content, message = BAD_FORMS[case]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        image_input(tmp_path, SIDE, CLIP)


def test_without_a_tokenizer_token_ids_are_the_input(tmp_path: Path) -> None:
    assert text_input(tmp_path, TEXT, "longest") == ArrayInput("input_ids", "int64", ("batch", "tokens"))


@pytest.mark.parametrize(
    ("content", "pad_id"),
    [(None, 0), ({}, 0), ({"pad_token": "<|end|>"}, 1), ({"pad_token": {"content": "<|end|>", "special": True}}, 1)],
    ids=["no file", "no token", "token", "token with flags"],
)
def test_padding_comes_from_the_tokenizer_before_the_model(
    content: dict[str, Any] | None, pad_id: int, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data(bpe()))
    if content is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(content))
    spec = text_input(tmp_path, TEXT, "max_tokens")
    assert spec == TextInput("text", "input_ids", "", "tokenizer.json", 16, pad_id, "max_tokens")


BAD_TOKENIZERS: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "damaged": (b"{", {}, "tokenizer.json is damaged .*copy it again"),
    "unknown padding": (data(words()), {"pad_token": "[PAD]"}, r"pads with '\[PAD\]', which .*tokenizer.json does not"),
    "padding on the left": (data(words()), {"padding_side": "left"}, "pads on the left, but the runtime"),
}


@pytest.mark.parametrize("case", BAD_TOKENIZERS)
def test_bad_tokenizers_are_refused(case: str, tmp_path: Path) -> None:
    tokenizer, config, message = BAD_TOKENIZERS[case]
    (tmp_path / "tokenizer.json").write_bytes(tokenizer)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        text_input(tmp_path, TEXT, "longest")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data(words()))
    few = Settings("text_config", {**TEXT.values, "vocab_size": 10})
    with pytest.raises(CheckpointError, match=r"token ids up to \d+, but config.json has text_config.vocab_size 10"):
        text_input(tmp_path, few, "longest")


def test_the_tokenizer_travels_with_the_model(tmp_path: Path) -> None:
    siglip().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(data(words()))
    adapted = adapt_folder(tmp_path)
    text = adapted.spec.inputs[1]
    assert isinstance(text, TextInput)
    assert (text.pad_to, text.max_tokens, text.pad_id) == ("max_tokens", 11, 1)
    assert adapted.files == {"tokenizer.json": data(words())}
