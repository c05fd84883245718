"""Inputs for models that come without data: enough to compare engines and to time them, not to judge quality."""

from __future__ import annotations

from typing import Any

import numpy as np

from sanderling.calibration.dataset import Data, Sample
from sanderling.compile.architecture import Adapted
from sanderling.engine import AnyArray
from sanderling.errors import InputError, RecipeError
from sanderling.spec import ArrayInput, ImageInput, InputSpec, TextInput
from sanderling.text import Tokenizer

METRIC = "agreement with the full model on made-up inputs"
WORDS = ("a", "red", "car", "left", "of", "the", "tree")


def make_up(adapted: Adapted, count: int, seed: int) -> Data:
    """Return `count` samples of seeded noise with the statistics of pictures: smooth patches over a ramp, short texts.

    Args:
        adapted: the model.
        count: samples to make.
        seed: another seed makes others.
    """
    rng = np.random.default_rng(seed)
    samples = [_sample(adapted, rng) for _ in range(count)]
    return Data(samples, metric=METRIC)


def _sample(adapted: Adapted, rng: np.random.Generator) -> Sample:
    return {spec.name: _value(spec, adapted, rng) for spec in adapted.spec.inputs}


def _value(spec: InputSpec, adapted: Adapted, rng: np.random.Generator) -> Any:
    if isinstance(spec, ImageInput):
        return _picture(spec, rng)
    if isinstance(spec, ArrayInput):
        return _array(spec, adapted, rng)
    return _text(spec, adapted, rng)


def _text(spec: TextInput, adapted: Adapted, rng: np.random.Generator) -> str:
    """Return four words, or as many of them as the model takes."""
    tokenizer = Tokenizer(adapted.files[spec.tokenizer])
    words = [str(word) for word in rng.choice(WORDS, size=4)]
    while len(words) > 1 and not _fits(tokenizer, " ".join(words), spec):
        words.pop()
    return " ".join(words)


def _fits(tokenizer: Tokenizer, text: str, spec: TextInput) -> bool:
    try:
        tokenizer.encode(text, spec)
    except InputError:
        return False
    return True


def _picture(spec: ImageInput, rng: np.random.Generator) -> AnyArray:
    """Return blocks of random colour at three scales, uint8 [height, width, channels]."""
    total = np.zeros((spec.height, spec.width, len(spec.mean)))
    for block in (4, 16, 64):
        rows, columns = -(-spec.height // block), -(-spec.width // block)
        coarse = rng.uniform(0, 85, (rows, columns, len(spec.mean)))
        total += coarse.repeat(block, 0).repeat(block, 1)[: spec.height, : spec.width]
    return total.astype(np.uint8)


def _array(spec: ArrayInput, adapted: Adapted, rng: np.random.Generator) -> AnyArray:
    """Return one row in the form of the traced example: noise for floats, else what the model is known to take."""
    example = _example(spec.name, adapted)
    row = example[:1] if spec.shape and isinstance(spec.shape[0], str) else example
    if np.issubdtype(row.dtype, np.floating):
        return np.asarray(rng.standard_normal(row.shape), dtype=row.dtype)
    return row


def _example(name: str, adapted: Adapted) -> AnyArray:
    examples = {
        tensor.name: value
        for part in adapted.parts
        for tensor, value in zip(adapted.spec.component(part.component).inputs, part.example, strict=True)
    }
    if name not in examples:
        raise RecipeError(f"model {adapted.spec.name!r} has input {name!r}, which no component reads; leave it out")
    array: AnyArray = examples[name].numpy()
    return array
