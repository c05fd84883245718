"""Checks that calibration feeds fit the graph they are for, and hold enough to learn ranges from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper

from sanderling.compile.number_format import Feeds
from sanderling.engine import AnyArray
from sanderling.errors import InputError

MINIMUM_SAMPLES = 8
"""Different samples that ranges are learned from at least: the next sample exceeds the largest of n with 1/(n + 1)."""


def check_feeds(model: ModelProto, feeds: Feeds) -> None:
    """Refuse feeds that are not this graph's, or that ranges cannot be learned from.

    Samples are told apart by their arrays; lever scalars only say how often each is run.

    Raises:
        InputError: none, too few, all the same, or one of the wrong names, shapes, dtypes or values; says which.
    """
    if not feeds:
        raise InputError(f"no calibration samples; give at least {MINIMUM_SAMPLES} different ones")
    for number, feed in enumerate(feeds):
        _check_feed(model, feed, f"calibration sample {number}")
    different = len({_digest(feed) for feed in feeds})
    if different == 1 and len(feeds) > 1:
        raise InputError(
            f"all {len(feeds)} calibration samples are the same; ranges would fit that one alone. "
            f"Give at least {MINIMUM_SAMPLES} different ones"
        )
    if different < MINIMUM_SAMPLES:
        raise InputError(f"{different} different calibration samples, expected at least {MINIMUM_SAMPLES}")


def _check_feed(model: ModelProto, feed: Mapping[str, AnyArray], where: str) -> None:
    expected = {value.name: value for value in model.graph.input}
    if set(feed) != set(expected):
        raise InputError(f"{where} has inputs {sorted(feed)}, the graph has {sorted(expected)}")
    lengths: dict[str, int] = {}
    for name, value in expected.items():
        _check_array(np.asarray(feed[name]), value, lengths, f"{where}, input {name!r}")


def _check_array(array: AnyArray, value: ValueInfoProto, lengths: dict[str, int], where: str) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    if array.dtype != dtype:
        raise InputError(f"{where} is {array.dtype}, expected {dtype}")
    shape = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
    fits = len(shape) == array.ndim and all(
        length == (lengths.setdefault(axis, length) if isinstance(axis, str) else axis)
        for axis, length in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise InputError(f"{where} has shape {list(array.shape)}, expected {shape}")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        wrong = int(array.size - np.isfinite(array).sum())
        raise InputError(f"{where} has {wrong} of {array.size} values that are NaN or infinite; leave that sample out")


def _digest(feed: Mapping[str, AnyArray]) -> str:
    total = hashlib.sha256()
    for name in sorted(feed):
        array = np.asarray(feed[name])
        if array.ndim:
            total.update(f"{name} {array.shape}".encode() + array.tobytes())
    return total.hexdigest()
