"""Draws on a picture which of its tokens a rung keeps."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling import lookup
from sanderling.calibration.dataset import Sample
from sanderling.errors import MissingExtraError
from sanderling.inputs import prepare_image
from sanderling.ladder import Rung
from sanderling.manifest import Manifest
from sanderling.session import Session
from sanderling.spec import ImageInput

DIMMED = 0.22
"""Brightness that a left-out patch keeps."""

SHOWN_PIXELS = 288
"""Height that a small picture is enlarged to, so that patches stay sharp squares."""


@dataclass(frozen=True)
class Grid:
    """Where a picture's tokens are: the input, the output that lists the kept places, and patches a side."""

    image: ImageInput
    report: str
    side: int


@dataclass(frozen=True)
class Kept:
    """A picture with the patches that a rung leaves out darkened.

    Attributes:
        uri: the picture as a data URI.
        kept: tokens that are left.
        of: tokens there were.
        merges: whether the others were merged into these, not dropped.
    """

    uri: str
    kept: int
    of: int
    merges: bool


def find_grid(manifest: Manifest) -> Grid | None:
    """Return where the kept tokens of a picture can be read, or None when the model does not tell.

    It does when an output that callers get lists the places, and the lever counts a square of patches.
    """
    model = manifest.model
    image = next((spec for spec in model.inputs if isinstance(spec, ImageInput)), None)
    for site in model.sites:
        most = model.lever(site.lever).maximum
        side = math.isqrt(most)
        if image is not None and site.report in model.outputs and side * side == most:
            return Grid(image, site.report, side)
    return None


def draw_kept(session: Session, rung: Rung, sample: Sample, grid: Grid) -> Kept:
    """Return a sample's picture as a rung sees it."""
    answer = session.run(sample, plan=session.at(rung.settings, rung.graphs))
    places = answer.outputs[grid.report][0]
    places = places[places >= 0]  # a class token says -1
    stays = np.zeros(grid.side * grid.side, dtype=bool)
    stays[places] = True
    picture = _picture(grid.image, sample[grid.image.name])
    dimmed = _dim(picture, stays.reshape(grid.side, grid.side))
    return Kept(_data_uri(dimmed), int(stays.sum()), stays.size, _merges(session.manifest, rung))


def _merges(manifest: Manifest, rung: Rung) -> bool:
    """Return whether a reducer of this rung merges tokens."""
    names = {manifest.graph(component, name).reducer for component, name in rung.graphs.items()} - {""}
    return any(lookup.find("reducer", name).merges for name in names)


def _picture(spec: ImageInput, given: Any) -> NDArray[np.float64]:
    """Return the picture as the model gets it, 0 to 1, [height, width, 3]: prepared, then un-normalised."""
    prepared = prepare_image(spec, given)[0].astype(np.float64)
    mean, std = np.asarray(spec.mean)[:, None, None], np.asarray(spec.std)[:, None, None]
    pixels = np.clip((prepared * std + mean) / spec.scale / 255, 0, 1).transpose(1, 2, 0)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _dim(picture: NDArray[np.float64], stays: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the picture enlarged, its left-out patches dark and grey, uint8 [height, width, 3]."""
    height, width = picture.shape[:2]
    rows, columns = stays.shape
    patch_row = np.minimum(np.arange(height) * rows // height, rows - 1)
    patch_column = np.minimum(np.arange(width) * columns // width, columns - 1)
    shown = stays[patch_row][:, patch_column, None]
    grey = picture.mean(-1, keepdims=True) * DIMMED
    times = max(1, SHOWN_PIXELS // height)
    pixels = (255 * np.where(shown, picture, grey)).round().astype(np.uint8)
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingExtraError("pillow", "images", "drawing pictures into the report") from error
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
