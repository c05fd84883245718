"""Pictures and arrays from the caller's form to the model's; Hugging Face's Pillow processors are the oracle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

from sanderling.errors import InputError
from sanderling.inputs import check_array, prepare_image
from sanderling.spec import ArrayInput, ImageInput, TensorSpec

CLIP = ImageInput(
    name="photo",
    tensor="pixel_values",
    height=24,
    width=24,
    resize="shortest",
    shortest=24,
    resample="bicubic",
    scale=1 / 255,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
SIGLIP = ImageInput(
    name="photo",
    tensor="pixel_values",
    height=24,
    width=24,
    resize="exact",
    shortest=0,
    resample="bicubic",
    scale=1 / 255,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)

# Both computations scale in double and normalise in single precision, so they agree to rounding of the last bit.
ROUNDING = 1e-6

SHAPES = [
    (24, 24),
    (23, 25),
    (25, 23),
    (48, 48),
    (100, 37),
    (37, 100),
    (31, 24),
    (24, 31),
    (1, 1),
    (2, 7),
    (7, 2),
    (5, 200),
    (200, 5),
    (301, 299),
    (24, 25),
    (11, 13),
]


def changed(spec: ImageInput, **values: Any) -> ImageInput:
    """Return the spec with some fields replaced."""
    return ImageInput(**{**vars(spec), **values})


def picture(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """Return seeded noise, uint8 [height, width, channels]."""
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def clip_oracle(images: Any, **options: Any) -> NDArray[np.float32]:
    """Return Hugging Face's CLIP preparation of a picture or a list of them."""
    size = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}, **options}
    return np.asarray(CLIPImageProcessorPil(**size)(images, return_tensors="np")["pixel_values"])


def siglip_oracle(images: Any) -> NDArray[np.float32]:
    """Return Hugging Face's SigLIP preparation of a picture or a list of them."""
    processor = SiglipImageProcessorPil(size={"height": 24, "width": 24})
    return np.asarray(processor(images, return_tensors="np")["pixel_values"])


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_pictures_of_any_shape_equal_hugging_face(height: int, width: int) -> None:
    image = Image.fromarray(picture(height, width))
    assert np.abs(prepare_image(CLIP, image) - clip_oracle(image)).max() <= ROUNDING
    assert np.abs(prepare_image(SIGLIP, image) - siglip_oracle(image)).max() <= ROUNDING


@pytest.mark.parametrize(("height", "width"), [(24, 24), (100, 37), (2, 7), (31, 24), (24, 33)])
@pytest.mark.parametrize("shortest", [9, 20, 23, 24, 29, 40])
def test_crop_and_black_margins_equal_hugging_face(height: int, width: int, shortest: int) -> None:
    image = Image.fromarray(picture(height, width))
    crop = {"height": 24, "width": 19}
    wanted = clip_oracle(image, size={"shortest_edge": shortest}, crop_size=crop)
    came = prepare_image(changed(CLIP, shortest=shortest, width=19), image)
    assert came.shape == wanted.shape == (1, 3, 24, 19)
    assert np.abs(came - wanted).max() <= ROUNDING


@pytest.mark.parametrize(("name", "code"), [("nearest", 0), ("lanczos", 1), ("bilinear", 2), ("bicubic", 3)])
def test_each_filter_equals_hugging_face(name: str, code: int) -> None:
    image = picture(50, 41)
    came = prepare_image(changed(CLIP, resample=name), image)
    assert np.abs(came - clip_oracle(image, resample=code)).max() <= ROUNDING


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr"])
def test_picture_modes_equal_hugging_face(mode: str) -> None:
    image = Image.fromarray(picture(40, 30, 4), mode="RGBA")
    image = image if mode == "RGBA" else image.convert(mode)
    assert np.abs(prepare_image(CLIP, image) - clip_oracle(image)).max() <= ROUNDING


@pytest.mark.parametrize("form", [(40, 30), (40, 30, 1), (40, 30, 4)], ids=["grey", "grey1", "opacity"])
def test_arrays_with_other_channels_equal_hugging_face(form: tuple[int, ...]) -> None:
    array = np.random.default_rng(5).integers(0, 256, form, dtype=np.uint8)
    oracle = array[..., None] if array.ndim == 2 else array
    assert np.abs(prepare_image(CLIP, array) - clip_oracle(oracle)).max() <= ROUNDING


def test_palette_with_a_transparent_colour_is_laid_on_white() -> None:
    image = Image.fromarray(np.zeros((24, 24), dtype=np.uint8), mode="P")
    image.info["transparency"] = 0
    white = prepare_image(CLIP, np.full((24, 24, 3), 255, dtype=np.uint8))
    np.testing.assert_array_equal(prepare_image(CLIP, image), white)


def test_files_are_read_and_turned_upright(tmp_path: Path) -> None:
    image = Image.fromarray(picture(30, 50))
    image.save(tmp_path / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the picture a quarter turn clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(prepare_image(CLIP, str(tmp_path / "plain.png")), prepare_image(CLIP, image))
    np.testing.assert_array_equal(prepare_image(CLIP, tmp_path / "turned.png"), prepare_image(CLIP, upright))


def test_lists_and_batches_give_one_row_a_picture(tmp_path: Path) -> None:
    one, two = picture(30, 50), picture(24, 24)
    Image.fromarray(one).save(tmp_path / "one.png")
    rows = prepare_image(
        CLIP, [tmp_path / "one.png", Image.fromarray(two), np.stack([one, one]), prepare_image(CLIP, two)]
    )
    first, second = prepare_image(CLIP, one)[0], prepare_image(CLIP, two)[0]
    np.testing.assert_array_equal(rows, np.stack([first, second, first, first, second]))


@pytest.mark.parametrize("batched", [False, True])
def test_prepared_arrays_are_taken_as_they_are(batched: bool) -> None:
    prepared = np.random.default_rng(0).normal(size=(2, 3, 24, 24)).astype(np.float32)
    given = prepared if batched else prepared[0]
    np.testing.assert_array_equal(prepare_image(CLIP, given), prepared if batched else prepared[:1])


def test_scale_mean_and_std_change_the_result() -> None:
    raw = changed(CLIP, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    array = picture(24, 24)
    np.testing.assert_array_equal(prepare_image(raw, array)[0], np.moveaxis(array, -1, 0).astype(np.float32))


def test_grey_models_take_grey_pictures() -> None:
    grey = changed(CLIP, mean=(0.5,), std=(0.5,))
    assert prepare_image(grey, Image.fromarray(picture(40, 30)[..., 0])).shape == (1, 1, 24, 24)
    with pytest.raises(InputError, match="has 3 channels, the model takes 1"):
        prepare_image(grey, picture(40, 30))


def test_right_size_needs_no_pillow_and_wrong_size_says_how_to_get_it() -> None:
    script = """
import sys
sys.modules["PIL"] = None
import numpy as np
from sanderling.errors import MissingExtraError
from sanderling.inputs import prepare_image
from sanderling.spec import ImageInput
for resize in ("exact", "shortest", "none"):
    spec = ImageInput("photo", "p", 8, 8, resize, 8, "bicubic", 1.0, (0.0,) * 3, (1.0,) * 3)
    assert prepare_image(spec, np.zeros((8, 8, 3), np.uint8)).shape == (1, 3, 8, 8)
spec = ImageInput("photo", "p", 8, 8, "exact", 0, "bicubic", 1.0, (0.0,) * 3, (1.0,) * 3)
try:
    prepare_image(spec, np.zeros((9, 8, 3), np.uint8))
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "resizing pictures needs pillow: pip install 'sanderling[images]'"


BAD_PICTURES = {
    "no picture": ([], "empty list, expected at least 1"),
    "no pixels": (np.zeros((0, 24, 3), np.uint8), r"empty picture \[0, 24, 3\]"),
    "no pictures in the batch": (np.zeros((0, 24, 24, 3), np.uint8), "empty picture"),
    "rank 1": (np.zeros(24, np.uint8), r"uint8 array \[24\], expected \[height, width\]"),
    "rank 5": (np.zeros((1, 1, 24, 24, 3), np.uint8), "expected .height, width"),
    "two channels": (np.zeros((24, 24, 2), np.uint8), "1, 3 or 4"),
    "channels first": (np.zeros((3, 24, 24), np.uint8), r"np.moveaxis\(picture, -3, -1\)"),
    "float pixels": (np.zeros((24, 24, 3), np.float32), r"a picture is uint8 .*prepared one float32 \[3, 24, 24\]"),
    "double": (np.zeros((3, 24, 24)), "float64 array .*prepared one float32"),
    "int64 pixels": (np.zeros((24, 24, 3), np.int64), r"int64 array .*astype\(np.uint8\)"),
    "prepared for another size": (np.zeros((3, 32, 32), np.float32), r"\[3, 32, 32\].*\[3, 24, 24\]"),
    "NaN": (np.full((3, 24, 24), np.nan, np.float32), "1728 of 1728 values that are NaN or infinite"),
    "infinity": (np.full((3, 24, 24), np.inf, np.float32), "NaN or infinite"),
    "no such file": ("/no/such/file.png", "there is no file /no/such/file.png"),
    "something else": (object(), "is object, expected a path, a PIL image"),
    "nothing": (None, "is NoneType, expected"),
    "16 bits": (Image.fromarray(np.zeros((24, 24), np.uint16)), "'I;16', more than 8 bits"),
    "too long and thin": (np.zeros((1, 200_000, 3), np.uint8), "resized to 24 x 4800000 .*crop it first"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_bad_pictures_are_refused(case: str) -> None:
    value, message = BAD_PICTURES[case]
    with pytest.raises(InputError, match=f"(?s)'photo'.*{message}"):
        prepare_image(CLIP, value)


@pytest.mark.parametrize("content", [b"", b"not a picture", None], ids=["empty", "text", "cut short"])
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(picture(50, 50)).save(path)
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(InputError, match=r"photo.png is no picture that can be read"):
        prepare_image(CLIP, path)


def test_pictures_of_another_size_are_refused_where_nothing_resizes() -> None:
    with pytest.raises(InputError, match=r"25 x 24 pixels .*only 24 x 24"):
        prepare_image(changed(CLIP, resize="none"), picture(25, 24))


TABLE = ArrayInput("table", "float32", ("batch", 4))
IDS = TensorSpec("input_ids", "int64", ("batch", "tokens"))


def test_arrays_that_fit_come_back_in_c_order() -> None:
    given = np.asfortranarray(np.ones((3, 4), dtype=np.float32))
    came = check_array(TABLE, given)
    np.testing.assert_array_equal(came, given)
    assert came.flags.c_contiguous
    assert check_array(TensorSpec("steps", "int64", ()), np.array(5)).shape == ()


@pytest.mark.parametrize("given", [[[1, 2], [3, 4]], ((1, 2), (3, 4))], ids=["lists", "tuples"])
def test_plain_whole_numbers_become_integers(given: Any) -> None:
    came = check_array(IDS, given)
    assert came.dtype == np.int64
    assert came.tolist() == [[1, 2], [3, 4]]
    assert check_array(TensorSpec("steps", "int64", ()), 5) == 5


BAD_ARRAYS: dict[str, tuple[ArrayInput | TensorSpec, Any, str]] = {
    "rank": (TABLE, np.ones(4, np.float32), r"float32 \[4\] with 1 axes, expected float32 \[batch, 4\] with 2 axes"),
    "length": (TABLE, np.ones((2, 5), np.float32), "axis 1 has length 5, needs 4"),
    "empty batch": (TABLE, np.ones((0, 4), np.float32), "axis 0 has length 0, needs 1"),
    "double": (TABLE, np.ones((2, 4)), r"float64 .*expected float32 .*`.astype\(np.float32\)`"),
    "int32": (IDS, np.ones((2, 4), np.int32), r"`.astype\(np.int64\)`"),
    "byte order": (TABLE, np.ones((2, 4), ">f4"), r"`.astype\(np.float32\)`"),
    "NaN": (TABLE, np.array([[1, 2, 3, np.nan]], np.float32), "1 of 4 values that are NaN"),
    "infinity": (TABLE, np.array([[1, 2, np.inf, -np.inf]], np.float32), "2 of 4 values"),
    "list of floats": (TABLE, [[1.0, 2.0, 3.0, 4.0]], r"is list, expected .*np.asarray\(value, dtype=np.float32\)"),
    "floats for integers": (IDS, [[1.5, 2.0]], "float64 values"),
    "truth values": (IDS, [[True, False]], "bool values"),
    "ragged": (IDS, [[1, 2], [3]], "rows differ in length"),
    "too large": (TensorSpec("level", "int8", (1,)), [300], "that fit int8"),
    "text": (IDS, "a red car", "is str, expected a NumPy array int64"),
    "repeated axis": (TensorSpec("square", "float32", ("n", "n")), np.ones((2, 3), np.float32), "length 3, needs 2"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused(case: str) -> None:
    spec, value, message = BAD_ARRAYS[case]
    with pytest.raises(InputError, match=f"'{spec.name}'.*{message}"):
        check_array(spec, value)
