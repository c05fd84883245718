"""What callers pass, made into the arrays that graphs take.

A picture is one of these, or a list of them:

    a path                                   turned upright as its EXIF data says
    a PIL image
    uint8 [height, width, 3]                 red, green, blue
    uint8 [height, width] or [.., .., 1]     grey
    uint8 [height, width, 4]                 red, green, blue, opacity; laid on white
    uint8 [batch, height, width, 1|3|4]      several of the above
    float32 [3, height, width]               already prepared: of exactly the model's size, taken as it is
    float32 [batch, 3, height, width]        several of the above

No other array is taken: a float array is never guessed to be pixels.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import InputError, MissingExtraError
from sanderling.spec import ArrayInput, ImageInput, TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels: TypeAlias = NDArray[np.uint8]
"""uint8 [height, width, channels]"""

MAX_PIXELS = 1 << 26
"""Largest picture that a resize may make before the crop: 200 MB in memory; a long thin picture would pass it."""

_HIGH_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes with more than 8 bits, which its conversion to RGB clips instead of scaling."""


def prepare_image(spec: ImageInput, value: object) -> NDArray[np.float32]:
    """Return pictures as the model takes them; equal to Hugging Face's Pillow image processors.

    Args:
        spec: size, resizing and normalisation.
        value: a picture or a list of pictures, as the module's first lines say.

    Returns:
        float32 [batch, channels, height, width]

    Raises:
        InputError: not a picture, an unreadable or empty one, or an array of the wrong form.
        MissingExtraError: Pillow is needed and not installed; an array of the model's size needs none.
    """
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if not items:
        raise InputError(f"input {spec.name!r} is an empty list, expected at least 1 picture")
    batches = [_prepare(spec, item) for item in items]
    return batches[0] if len(batches) == 1 else np.concatenate(batches)


def check_array(spec: ArrayInput | TensorSpec, value: object) -> NDArray[Any]:
    """Return an array that fits a spec, in C order; nothing is cast but plain Python whole numbers.

    Args:
        spec: name, dtype and shape; a named axis takes any length from 1, the same wherever its name is repeated.
        value: a NumPy array, or for an integer dtype (nested lists of) Python ints.

    Raises:
        InputError: wrong type, dtype, rank or length, or a value that is NaN or infinite.
    """
    array = value if isinstance(value, np.ndarray) else _from_ints(spec, value)
    expected = f"expected {spec.dtype} {_written(spec.shape)}"
    came = f"input {spec.name!r} is {array.dtype} {_written(array.shape)}"
    if array.ndim != len(spec.shape):
        raise InputError(f"{came} with {array.ndim} axes, {expected} with {len(spec.shape)} axes; reshape it")
    if array.dtype != np.dtype(spec.dtype):
        raise InputError(f"{came}, {expected}; convert it with `.astype(np.{spec.dtype})`")
    lengths: dict[str, int] = {}
    for place, (axis, length) in enumerate(zip(spec.shape, array.shape, strict=True)):
        wanted = axis if isinstance(axis, int) else lengths.setdefault(axis, length)
        if length != wanted or length < 1:
            raise InputError(f"{came}, {expected}: axis {place} has length {length}, needs {max(wanted, 1)}")
    _refuse_not_finite(spec.name, array)
    return np.asarray(array, order="C")


def _prepare(spec: ImageInput, item: object) -> NDArray[np.float32]:
    if isinstance(item, np.ndarray) and item.dtype != np.uint8:
        return _already_prepared(spec, item)
    levels = _levels(spec)
    pictures = [_fit(spec, pixels) for pixels in _pictures(spec, item)]
    batch = np.empty((len(pictures), len(levels), spec.height, spec.width), dtype=np.float32)
    for out, pixels in zip(batch, pictures, strict=True):
        _look_up(levels, pixels, out)
    return batch


def _already_prepared(spec: ImageInput, array: NDArray[Any]) -> NDArray[np.float32]:
    wanted = (len(spec.mean), spec.height, spec.width)
    if array.dtype != np.float32 or array.ndim not in (3, 4) or array.shape[-3:] != wanted or not array.size:
        raise InputError(
            f"input {spec.name!r} is a {array.dtype} array {_written(array.shape)}; a picture is uint8 "
            f"[height, width, {wanted[0]}], and a prepared one float32 {_written(wanted)} or "
            f"{_written(('batch', *wanted))}. Pass pixels from 0 to 255 as uint8 (`.astype(np.uint8)`), or the "
            "picture's path"
        )
    _refuse_not_finite(spec.name, array)
    return np.asarray(array.reshape(-1, *wanted), order="C")


def _pictures(spec: ImageInput, item: object) -> list[Pixels]:
    """Return a path, a PIL image or a uint8 array as pictures with the channels that the model takes."""
    if isinstance(item, (str, Path)):
        return [_channels(spec, _open(spec, Path(item)))]
    if isinstance(item, np.ndarray):
        return [_channels(spec, picture) for picture in _split(spec, item)]
    # A PIL image can only come from a module that is loaded already, so Pillow is never imported to find out.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(item, pillow.Image):
        return [_channels(spec, _from_pillow(spec, pillow, item))]
    raise InputError(
        f"input {spec.name!r} is {type(item).__name__}, expected a path, a PIL image, a uint8 array "
        "[height, width, 3] or a list of these; convert a tensor with `.numpy()`"
    )


def _split(spec: ImageInput, array: NDArray[np.uint8]) -> list[Pixels]:
    form = array[..., None] if array.ndim == 2 else array
    if form.ndim not in (3, 4) or form.shape[-1] not in (1, 3, 4):
        raise InputError(
            f"input {spec.name!r} is a uint8 array {_written(array.shape)}, expected [height, width], "
            "[height, width, 1, 3 or 4] or [batch, height, width, 1, 3 or 4]; channels first become channels last "
            "with `np.moveaxis(picture, -3, -1)`"
        )
    if not form.size:
        raise InputError(f"input {spec.name!r} is an empty picture {_written(array.shape)}, expected 1 pixel or more")
    return list(form) if form.ndim == 4 else [form]


def _open(spec: ImageInput, path: Path) -> Pixels:
    if not path.is_file():
        raise InputError(f"input {spec.name!r}: there is no file {path}")
    pillow = _pillow("reading picture files")
    try:
        with pillow.open(path) as image:
            upright = import_module("PIL.ImageOps").exif_transpose(image)
            return _from_pillow(spec, pillow, upright)
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise InputError(f"input {spec.name!r}: {path} is no picture that can be read ({error})") from error


def _from_pillow(spec: ImageInput, pillow: ModuleType, image: Image) -> Pixels:
    if not image.width or not image.height:
        raise InputError(f"input {spec.name!r} is an empty picture, {image.width} x {image.height} pixels")
    if image.mode in _HIGH_MODES:
        raise InputError(
            f"input {spec.name!r} is a picture of mode {image.mode!r}, more than 8 bits a channel; scale it to 0 to "
            "255 and pass it as a uint8 array"
        )
    if image.mode == "L" and "transparency" not in image.info:
        return np.asarray(image)[..., None]
    if "A" in image.getbands() or "transparency" in image.info:
        opaque = pillow.new("RGBA", image.size, (255, 255, 255, 255))
        return np.asarray(pillow.alpha_composite(opaque, image.convert("RGBA")).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _channels(spec: ImageInput, pixels: Pixels) -> Pixels:
    came, wanted = pixels.shape[-1], len(spec.mean)
    if came == wanted:
        return pixels
    if (came, wanted) == (1, 3):
        return np.repeat(pixels, 3, axis=-1)
    if (came, wanted) == (4, 3):
        opacity = pixels[..., 3:] / 255
        return np.round(opacity * pixels[..., :3] + (1 - opacity) * 255).astype(np.uint8)
    raise InputError(f"input {spec.name!r} has {came} channels, the model takes {wanted}")


def _fit(spec: ImageInput, pixels: Pixels) -> Pixels:
    """Return the picture resized and cropped to the model's size, [height, width, channels]."""
    height, width = pixels.shape[:2]
    target = _resized(spec, height, width)
    if target != (height, width):
        pixels = _resize(spec, pixels, target)
    return _centre(_centre(pixels, 0, spec.height), 1, spec.width)


def _resized(spec: ImageInput, height: int, width: int) -> tuple[int, int]:
    """Return height and width after resizing, before the crop."""
    if spec.resize == "exact":
        return spec.height, spec.width
    if spec.resize == "none":
        if (height, width) != (spec.height, spec.width):
            raise InputError(
                f"input {spec.name!r} is {height} x {width} pixels (height x width), the model takes only "
                f"{spec.height} x {spec.width}; resize it first"
            )
        return height, width
    # Truncated, not rounded, as the processors do that models were trained with.
    long = int(spec.shortest * max(height, width) / min(height, width))
    if spec.shortest * long > MAX_PIXELS:
        raise InputError(
            f"input {spec.name!r} is {height} x {width} pixels and would be resized to {spec.shortest} x {long} "
            f"before its centre is cropped, more than {MAX_PIXELS} pixels; crop it first"
        )
    return (long, spec.shortest) if height >= width else (spec.shortest, long)


def _resize(spec: ImageInput, pixels: Pixels, target: tuple[int, int]) -> Pixels:
    pillow = _pillow("resizing pictures")
    grey = pixels.shape[-1] == 1
    image = pillow.fromarray(np.asarray(pixels[..., 0] if grey else pixels, order="C"))
    resized = np.asarray(image.resize(target[::-1], resample=pillow.Resampling[spec.resample.upper()]))
    return resized[..., None] if grey else resized


def _centre(pixels: Pixels, axis: int, length: int) -> Pixels:
    """Return the middle `length` pixels along an axis; a shorter picture gets black on both sides, more before."""
    spare = pixels.shape[axis] - length
    if spare >= 0:
        middle = slice(spare // 2, spare // 2 + length)
        return pixels[middle] if axis == 0 else pixels[:, middle]
    before = (1 - spare) // 2
    margins = [(0, 0)] * 3
    margins[axis] = (before, -spare - before)
    return np.pad(pixels, margins)


def _levels(spec: ImageInput) -> NDArray[np.float32]:
    """Return what each of the 256 pixel values becomes, [channels, 256].

    Scaled in double and normalised in single precision, as Hugging Face's processors do, so that results are equal to
    the last bit.
    """
    scaled = (np.arange(256, dtype=np.float64) * spec.scale).astype(np.float32)
    mean, std = np.array(spec.mean, dtype=np.float32), np.array(spec.std, dtype=np.float32)
    levels: NDArray[np.float32] = (scaled - mean[:, None]) / std[:, None]
    return levels


def _look_up(levels: NDArray[np.float32], pixels: Pixels, out: NDArray[np.float32]) -> None:
    """[channels, 256], uint8 [height, width, channels] -> fills [channels, height, width]."""
    for place, row in enumerate(levels):
        # A byte is always in range; without the range check NumPy is six times faster here.
        np.take(row, pixels[..., place], out=out[place], mode="clip")


def _from_ints(spec: ArrayInput | TensorSpec, value: object) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype)
    problem = f"input {spec.name!r} is {type(value).__name__}, expected a NumPy array {spec.dtype}"
    if dtype.kind not in "iu" or not isinstance(value, (int, list, tuple)):
        raise InputError(
            f"{problem} {_written(spec.shape)}; convert it with `np.asarray(value, dtype=np.{spec.dtype})`"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{problem} {_written(spec.shape)}; its rows differ in length ({error})") from error
    if array.dtype.kind != "i" or array.min() < np.iinfo(dtype).min or array.max() > np.iinfo(dtype).max:
        raise InputError(f"{problem} or whole numbers that fit {spec.dtype}; it holds {array.dtype} values")
    return array.astype(dtype)


def _refuse_not_finite(name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise InputError(f"input {name!r} has {bad} of {array.size} values that are NaN or infinite; clean them first")


def _written(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(str(axis) for axis in shape)}]"


def _pillow(purpose: str) -> ModuleType:
    try:
        return import_module("PIL.Image")
    except ImportError as error:
        raise MissingExtraError("pillow", "images", purpose) from error
