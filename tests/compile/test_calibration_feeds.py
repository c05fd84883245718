"""Calibration feeds that cannot be used are refused, each with what came and what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from format_graphs import LEVER, Feed, number_format, picture, product, row_feeds, scene_feeds, scene_vision
from onnx import TensorProto, helper

from sanderling.compile.calibration_feeds import MINIMUM_SAMPLES, check_feeds
from sanderling.compile.onnx_graph import prepared
from sanderling.errors import InputError


def changed(**change: Any) -> list[Feed]:
    """Return good feeds but for one."""
    feeds = row_feeds()
    feeds[4] = {**feeds[4], **change}
    return feeds


def with_value(value: float) -> list[Feed]:
    feeds = row_feeds()
    feeds[4]["x"][0, 0] = value
    return feeds


BAD: dict[str, tuple[list[Feed], str]] = {
    "none": ([], "no calibration samples; give at least 8 different ones"),
    "too few": (row_feeds(7), "7 different calibration samples, expected at least 8"),
    "all the same": (row_feeds(1) * 20, "all 20 calibration samples are the same"),
    "too few different ones": (row_feeds(3) * 5, "3 different calibration samples, expected at least 8"),
    "missing input": ([*row_feeds(), {}], r"sample 12 has inputs \[\], the graph has \['x'\]"),
    "unknown input": (changed(z=np.zeros(1)), r"sample 4 has inputs \['x', 'z'\], the graph has \['x'\]"),
    "dtype": (changed(x=np.zeros((3, 64))), "sample 4, input 'x' is float64, expected float32"),
    "length": (changed(x=np.zeros((3, 63), np.float32)), r"has shape \[3, 63\], expected \['batch', 64\]"),
    "rank": (changed(x=np.zeros(64, np.float32)), r"has shape \[64\], expected \['batch', 64\]"),
    "NaN": (with_value(np.nan), "has 1 of 192 values that are NaN or infinite; leave that sample out"),
    "infinite": (with_value(np.inf), "has 1 of 192 values that are NaN or infinite"),
}


@pytest.mark.parametrize("name", ["int8_static", "int8_nncf"])
@pytest.mark.parametrize("bad", BAD)
def test_bad_feeds_are_refused_before_anything_is_computed(bad: str, name: str) -> None:
    feeds, said = BAD[bad]
    chosen = number_format(name)
    with pytest.raises(InputError, match=said):
        chosen.convert(product(), feeds, chosen.targets[0])


def test_one_picture_at_many_token_counts_is_one_sample() -> None:
    feeds = scene_feeds(range(1), tuple(range(1, 30)))
    with pytest.raises(InputError, match="all 29 calibration samples are the same"):
        check_feeds(prepared(scene_vision()), feeds)


def test_named_axes_have_one_length_in_a_feed() -> None:
    feeds: list[Feed] = [
        {"a": np.full((2, 3), n, np.float32), "b": np.full((2 + (n == 5), 4), n, np.float32)} for n in range(10)
    ]
    model = prepared(product())
    del model.graph.input[:]
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", length])
        for name, length in (("a", 3), ("b", 4))
    )
    with pytest.raises(InputError, match=r"sample 5, input 'b' has shape \[3, 4\], expected \['batch', 4\]"):
        check_feeds(model, feeds)


def test_the_smallest_good_set_is_taken() -> None:
    check_feeds(prepared(product()), row_feeds(MINIMUM_SAMPLES))
    check_feeds(prepared(scene_vision()), scene_feeds(range(MINIMUM_SAMPLES)))


def test_lever_scalars_are_checked_as_well() -> None:
    feeds = scene_feeds()
    feeds[2] = {"pixel_values": picture(0), LEVER: np.asarray([9])}
    with pytest.raises(InputError, match=rf"sample 2, input '{LEVER}' has shape \[1\], expected \[\]"):
        check_feeds(prepared(scene_vision()), feeds)
