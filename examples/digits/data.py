"""Pairs of a picture and a sound that training never saw, for compiling and for measuring.

The project ships none of the data. `DIGITS_DATA` names the folder that holds it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.digits.pairs import PICTURES, RECORDINGS, SNR_DB, Corpus, Pair, draw_pair, load_corpus
from examples.digits.sound import log_mel
from sanderling.calibration.dataset import Data, Sample
from sanderling.errors import InputError

EVALUATION_SEED = 2_000_029
VARIABLE = "DIGITS_DATA"


def evaluation() -> Data:
    """Return 300 pairs of the test splits in the folder that `DIGITS_DATA` names.

    Raises:
        InputError: the variable is not set, or the folder lacks the data.
    """
    return from_corpus(load_corpus(data_folder(), "test"), 300)


def quick() -> Data:
    """Return 40 of those pairs, for a quick look."""
    return from_corpus(load_corpus(data_folder(), "test"), 40)


def data_folder() -> Path:
    """Return the folder that `DIGITS_DATA` names.

    Raises:
        InputError: the variable is not set.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise InputError(
            f"{VARIABLE} is not set; set it to the folder that holds {PICTURES} and {RECORDINGS}, such as "
            f"`{VARIABLE}=data sanderling compile ...` (the README in examples/digits says where they come from)"
        )
    return Path(folder)


def from_corpus(corpus: Corpus, count: int, seed: int = EVALUATION_SEED, snr_db: float = SNR_DB) -> Data:
    """Return `count` seeded pairs of a corpus."""
    pairs = [draw_pair(corpus, np.random.default_rng((seed, number)), snr_db) for number in range(count)]
    return Data(
        samples=[to_sample(pair) for pair in pairs],
        expected=[pair.digit for pair in pairs],
        score=is_right,
        metric="accuracy",
    )


def to_sample(pair: Pair) -> Sample:
    """Return a pair as `Session.run` takes it."""
    return {"image": pair.picture, "log_mel": log_mel(pair.waveform)[None]}


def is_right(outputs: dict[str, NDArray[Any]], expected: int) -> float:
    """Return 1 when the highest score is the expected digit's, else 0."""
    return float(int(outputs["digit_scores"][0].argmax()) == expected)
