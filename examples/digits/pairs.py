"""Pairs of a handwritten and a spoken digit of the same value, each made hard enough that the other one is needed.

Picture: the digit lies anywhere on a larger canvas, fainter or stronger, a grey square covers part of it, and noise
lies over all. Sound: the word is said at any moment of the second, in white noise at a stated signal-to-noise ratio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from examples.digits.sound import SAMPLES
from sanderling.errors import InputError

PICTURES, RECORDINGS = "handwritten_digits.npz", "spoken_digits.npz"
"""MNIST and the Free Spoken Digit Dataset, as arrays."""

DIGITS = 10
SIDE = 28
CANVAS = 36
"""Pixels on each side of a handwritten digit, and of the picture it lies in."""

COVER = (7, 11)
"""Side of the covering square, in pixels, from and to."""

GREY_NOISE = 38.0
"""Standard deviation of the picture's noise, of 255."""

SNR_DB = -3.0
"""Power of the word over power of the noise while it is said, unless another is asked for."""

LOUDNESS = 0.1
"""Root mean square that every word is brought to."""

TEST_TAKES = 5
"""Recordings 0 to 4 of each word and speaker are for testing, as usual."""


@dataclass(frozen=True)
class Corpus:
    """Handwritten and spoken digits.

    Attributes:
        pictures: uint8 [n, 28, 28], strokes are bright.
        picture_digits: [n]
        recordings: int16 [samples] each.
        recording_digits: [m]
    """

    pictures: NDArray[np.uint8]
    picture_digits: NDArray[np.integer[Any]]
    recordings: tuple[NDArray[np.int16], ...]
    recording_digits: NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Pair:
    """A picture uint8 [36, 36] and a waveform float32 [8192] of one digit."""

    picture: NDArray[np.uint8]
    waveform: NDArray[np.float32]
    digit: int


def load_corpus(folder: Path, split: Literal["train", "test"]) -> Corpus:
    """Return one split of both data sets.

    Raises:
        InputError: the folder lacks a file, or a file lacks an array.
    """
    with (
        _opened(folder / PICTURES, (f"x_{split}", f"y_{split}")) as written,
        _opened(folder / RECORDINGS, ("samples", "offsets", "digit", "take")) as spoken,
    ):
        samples, offsets, digits = spoken["samples"], spoken["offsets"], spoken["digit"]
        chosen = np.flatnonzero((spoken["take"] < TEST_TAKES) == (split == "test"))
        return Corpus(
            pictures=written[f"x_{split}"],
            picture_digits=written[f"y_{split}"],
            recordings=tuple(samples[offsets[i] : offsets[i + 1]] for i in chosen),
            recording_digits=digits[chosen],
        )


def draw_pair(corpus: Corpus, rng: np.random.Generator, snr_db: float = SNR_DB, stretch: float = 1.0) -> Pair:
    """Return a degraded pair, drawn from `rng`.

    Args:
        corpus: where from.
        rng: the same state draws the same pair.
        snr_db: of the sound.
        stretch: the word takes this many times as long, its pitch falls alike.
    """
    number = int(rng.integers(len(corpus.pictures)))
    digit = int(corpus.picture_digits[number])
    recording = corpus.recordings[int(rng.choice(np.flatnonzero(corpus.recording_digits == digit)))]
    if stretch != 1.0:
        places = np.arange(0, len(recording) - 1, 1 / stretch)
        recording = np.interp(places, np.arange(len(recording)), recording).astype(np.int16)
    return Pair(degrade_picture(corpus.pictures[number], rng), degrade_sound(recording, rng, snr_db), digit)


def degrade_picture(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture of a digit that is moved, faint, partly covered and noisy, [28, 28] -> [36, 36]."""
    canvas = np.full((CANVAS, CANVAS), rng.uniform(10, 70), dtype=np.float32)
    top, left = rng.integers(0, CANVAS - SIDE + 1, 2)
    window = canvas[top : top + SIDE, left : left + SIDE]
    np.maximum(window, picture * np.float32(rng.uniform(0.55, 1.0)), out=window)
    side = int(rng.integers(COVER[0], COVER[1] + 1))
    # The corner is drawn so that the square always touches the digit's middle 20 pixels, where its strokes are.
    row, column = (int(start) + int(rng.integers(4, 24 - side + 1)) for start in (top, left))
    canvas[row : row + side, column : column + side] = rng.uniform(0, 200)
    canvas += GREY_NOISE * rng.standard_normal(canvas.shape, dtype=np.float32)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def degrade_sound(recording: NDArray[np.int16], rng: np.random.Generator, snr_db: float) -> NDArray[np.float32]:
    """Return the word at any moment of the second, in white noise, int16 [samples] -> float32 [8192].

    A word longer than that loses its end. A silent recording stays silent under the noise.
    """
    word = recording[:SAMPLES].astype(np.float32) / 32768
    word *= LOUDNESS / max(float(np.sqrt(np.mean(word * word))), 1e-6)
    start = int(rng.integers(0, SAMPLES - len(word) + 1))
    waveform = LOUDNESS * 10 ** (-snr_db / 20) * rng.standard_normal(SAMPLES, dtype=np.float32)
    waveform[start : start + len(word)] += word
    return waveform.astype(np.float32)


def no_picture() -> NDArray[np.uint8]:
    """Return what stands for a picture when there is none: black, uint8 [36, 36]."""
    return np.zeros((CANVAS, CANVAS), dtype=np.uint8)


def no_sound() -> NDArray[np.float32]:
    """Return what stands for a sound when there is none: silence, float32 [8192]."""
    return np.zeros(SAMPLES, dtype=np.float32)


def _opened(path: Path, arrays: tuple[str, ...]) -> Any:
    if not path.is_file():
        raise InputError(f"there is no file {path}; name the folder that holds {PICTURES} and {RECORDINGS}")
    archive: Mapping[str, Any] = np.load(path)
    missing = [name for name in arrays if name not in archive]
    if missing:
        raise InputError(f"{path} lacks the array {missing[0]!r}; it has {', '.join(archive) or 'none'}")
    return archive
