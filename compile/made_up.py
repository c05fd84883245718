"""Inputs for models that come without data: enough to compare engines and to time them, not to judge quality."""

from __future__ import annotations

from typing import Any

import numpy as np
from sanderling.calibration.dataset import Data, Sample
from sanderling.compile.architecture import Adapted
from sanderling.engine import AnyArray
from sanderling.spec import ArrayInput, ImageInput, InputSpec

METRIC = "agreement with the full model on made-up inputs"
FREE_LENGTH = 4
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
    return " ".join(str(word) for word in rng.choice(WORDS, size=4))


def _picture(spec: ImageInput, rng: np.random.Generator) -> AnyArray:
    """Return blocks of random colour at three scales, uint8 [height, width, channels]."""
    total = np.zeros((spec.height, spec.width, len(spec.mean)))
    for block in (4, 16, 64):
        rows, columns = -(-spec.height // block), -(-spec.width // block)
        coarse = rng.uniform(0, 85, (rows, columns, len(spec.mean)))
        total += coarse.repeat(block, 0).repeat(block, 1)[: spec.height, : spec.width]
    return total.astype(np.uint8)


def _array(spec: ArrayInput, adapted: Adapted, rng: np.random.Generator) -> AnyArray:
    """Return noise for floats; for integers the traced example's first row, which the model is known to take."""
    batch = 1 if spec.shape and isinstance(spec.shape[0], str) else None
    shape = [FREE_LENGTH if isinstance(axis, str) else axis for axis in spec.shape]
    if np.issubdtype(np.dtype(spec.dtype), np.floating):
        return rng.standard_normal([batch or shape[0], *shape[1:]] if shape else []).astype(spec.dtype)
    example = _example(spec.name, adapted)
    return example[:1] if batch else example


def _example(name: str, adapted: Adapted) -> AnyArray:
    for component, part in zip(adapted.spec.components, adapted.parts, strict=True):
        for tensor, value in zip(component.inputs, part.example, strict=True):
            if tensor.name == name:
                array: AnyArray = value.numpy()
                return array
    raise KeyError(name)
