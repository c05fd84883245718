"""Made-up handwritten and spoken digits in the form of the files: digit d is a bright bar and a tone, placed by d."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from examples.digits.pairs import DIGITS, PICTURES, RECORDINGS, SIDE
from examples.digits.sound import RATE_HZ

TAKES = 7
"""Recordings of each digit; the first five are for testing."""


def write_digits(folder: Path) -> Path:
    """Write 20 pictures for each split and 70 recordings; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = np.arange(2 * DIGITS) % DIGITS
    pictures = np.zeros((len(digits), SIDE, SIDE), np.uint8)
    for picture, digit in zip(pictures, digits, strict=True):
        picture[4 + 2 * digit : 7 + 2 * digit, 4:24] = 255
    np.savez(
        folder / PICTURES, x_train=pictures, y_train=digits, x_test=pictures[::-1], y_test=digits[::-1].astype(np.uint8)
    )
    spoken = np.repeat(np.arange(DIGITS), TAKES)
    takes = np.tile(np.arange(TAKES), DIGITS)
    lengths = 1500 + 100 * takes
    tones = [
        9000 * np.sin(2 * np.pi * (200 + 150 * digit) * np.arange(length) / RATE_HZ)
        for digit, length in zip(spoken, lengths, strict=True)
    ]
    np.savez(
        folder / RECORDINGS,
        samples=np.concatenate(tones).astype(np.int16),
        offsets=np.concatenate([[0], lengths.cumsum()]),
        digit=spoken.astype(np.uint8),
        take=takes.astype(np.uint8),
    )
    return folder
