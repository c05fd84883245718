"""How a Hugging Face folder says that pictures and texts are prepared, as the runtime's input specs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sanderling.compile.checkpoint import read_json
from sanderling.compile.settings import Settings
from sanderling.errors import CheckpointError
from sanderling.spec import ArrayInput, ImageInput, InputSpec, TextInput
from sanderling.text import Tokenizer

TOKENIZER = "tokenizer.json"

Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]

_RESAMPLE: dict[int, Resample] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for its filters, as preprocessor_config.json has them."""


@dataclass(frozen=True)
class ImageDefaults:
    """What a family's image processor does where its file says nothing.

    Attributes:
        crop: True scales the short side and crops the centre, False stretches to the size.
        mean: per channel.
        std: per channel.
    """

    crop: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


def image_input(folder: Path, side: int, defaults: ImageDefaults) -> ImageInput:
    """Return the picture input "image" that becomes the value "pixel_values".

    Args:
        folder: read for preprocessor_config.json, or processor_config.json with an "image_processor" section.
        side: height and width that the vision model takes, in pixels.
        defaults: of the family.

    Raises:
        CheckpointError: the file asks for what the runtime does not do, or for another size than the model takes.
    """
    path, given = _processor(folder)
    try:
        spec = _image_input(given, side, defaults)
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if (spec.height, spec.width) != (side, side):
        raise CheckpointError(
            f"{path} prepares pictures of {spec.height} x {spec.width} pixels, but config.json has "
            f"vision_config.image_size {side}; make them equal"
        )
    return spec


def text_input(folder: Path, text: Settings, pad_to: Literal["longest", "max_tokens"]) -> InputSpec:
    """Return the text input "text", or the array input "input_ids" for a folder without tokenizer.json.

    Args:
        folder: read for tokenizer.json and the padding in tokenizer_config.json.
        text: the text section of config.json.
        pad_to: as `TextInput` has it.

    Raises:
        CheckpointError: the tokenizer does not fit the model.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        return ArrayInput("input_ids", "int64", ("batch", "tokens"))
    try:
        tokenizer = Tokenizer(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy it again") from error
    if tokenizer.highest_id >= text.whole("vocab_size"):
        raise CheckpointError(
            f"{path} has token ids up to {tokenizer.highest_id}, but config.json has text_config.vocab_size "
            f"{text.whole('vocab_size')}; take both from the same `save_pretrained`"
        )
    return TextInput(
        name="text",
        tensor="input_ids",
        mask="",
        tokenizer=TOKENIZER,
        max_tokens=text.whole("max_position_embeddings"),
        pad_id=_pad_id(folder, tokenizer, text),
        pad_to=pad_to,
    )


def text_files(folder: Path) -> dict[str, bytes]:
    """Return the bundle members that `text_input` refers to."""
    path = folder / TOKENIZER
    return {TOKENIZER: path.read_bytes()} if path.is_file() else {}


def _processor(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    path = folder / "preprocessor_config.json"
    given: Any = read_json(path) if path.is_file() else None
    if given is None:
        path = folder / "processor_config.json"
        given = read_json(path).get("image_processor") if path.is_file() else None
    # A null stands for the family's default, as an absent key does.
    return path, {k: v for k, v in given.items() if v is not None} if isinstance(given, dict) else {}


def _image_input(given: Mapping[str, Any], side: int, defaults: ImageDefaults) -> ImageInput:
    resample = given.get("resample", 3)
    if resample not in _RESAMPLE:
        raise ValueError(f"resample is {resample!r}, expected one of {_RESAMPLE}")
    if given.get("do_pad"):
        raise ValueError("do_pad pads pictures to a batch's largest, which has no fixed size; set it to false")
    rescale, normalise = given.get("do_rescale", True), given.get("do_normalize", True)
    channels = len(defaults.mean)
    spec = ImageInput(
        name="image",
        tensor="pixel_values",
        height=side,
        width=side,
        resize="none",
        shortest=0,
        resample=_RESAMPLE[resample],
        scale=float(given.get("rescale_factor", 1 / 255)) if rescale else 1.0,
        mean=_per_channel(given.get("image_mean", defaults.mean), channels) if normalise else (0.0,) * channels,
        std=_per_channel(given.get("image_std", defaults.std), channels) if normalise else (1.0,) * channels,
    )
    return _with_size(spec, given, side, defaults)


def _with_size(spec: ImageInput, given: Mapping[str, Any], side: int, defaults: ImageDefaults) -> ImageInput:
    """Fill in resize, shortest, height and width from `size` and `crop_size` in either of their forms."""
    crops = given.get("do_center_crop", defaults.crop)
    crop = _height_width(given.get("crop_size", side)) if crops else None
    if not given.get("do_resize", True):
        if crop:
            raise ValueError("do_center_crop without do_resize is not something the runtime does; set both or none")
        return spec
    size = given.get("size", side)
    if isinstance(size, int):
        size = {"shortest_edge": size} if defaults.crop else {"height": size, "width": size}
    size = {key: value for key, value in size.items() if value is not None}
    if set(size) == {"shortest_edge"} and crop:
        return replace(spec, resize="shortest", shortest=int(size["shortest_edge"]), height=crop[0], width=crop[1])
    if set(size) == {"height", "width"} and crop in (None, _height_width(size)):
        height, width = _height_width(size)
        return replace(spec, resize="exact", height=height, width=width)
    raise ValueError(
        f"size {size} with crop_size {crop} is not something the runtime does; expected shortest_edge with a centre "
        "crop, or height and width without one"
    )


def _height_width(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    numbers = (float(values),) * channels if isinstance(values, (int, float)) else tuple(float(v) for v in values)
    if len(numbers) != channels:
        raise ValueError(f"image_mean and image_std need {channels} numbers, one per channel, not {len(numbers)}")
    return numbers


def _pad_id(folder: Path, tokenizer: Tokenizer, text: Settings) -> int:
    path = folder / "tokenizer_config.json"
    given = read_json(path) if path.is_file() else {}
    if given.get("padding_side", "right") != "right":
        raise CheckpointError(f"{path} pads on the {given['padding_side']}, but the runtime pads on the right")
    pad = given.get("pad_token")
    content = pad.get("content") if isinstance(pad, dict) else pad
    if content is None:
        return text.token("pad_token_id")
    number = tokenizer.id_of(content) if isinstance(content, str) else None
    if number is None:
        raise CheckpointError(f"{path} pads with {content!r}, which {folder / TOKENIZER} does not have")
    return number
