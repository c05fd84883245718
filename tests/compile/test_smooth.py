"""Smoothing: exact in float32, by the paper's equation, and never on what others read."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from format_graphs import Feed, arrays, lopsided, product, row_feeds, run, scene_feeds, scene_vision, weight
from onnx import helper

from sanderling.compile.onnx_graph import prepared
from sanderling.compile.smooth import can_smooth, smoothed
from sanderling.errors import RecipeError


def smooth(graph: bytes, feeds: list[Feed], alpha: float = 0.5) -> bytes:
    serialised: bytes = smoothed(prepared(graph), feeds, alpha).SerializeToString()
    return serialised


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
def test_the_smoothed_scene_encoder_computes_the_same(alpha: float) -> None:
    graph, feeds = scene_vision(), scene_feeds()
    changed = smooth(graph, feeds, alpha)
    assert changed != graph
    for feed in scene_feeds(range(20, 22)):
        wanted, got = run(graph, feed), run(changed, feed)
        np.testing.assert_array_equal(got["image_kept"], wanted["image_kept"])
        # Of size 5, rounded in another order.
        np.testing.assert_allclose(got["image_tokens"], wanted["image_tokens"], atol=1e-5 * 5)


def test_a_single_layer_computes_the_same_to_1e_5() -> None:
    graph, feeds = lopsided(), row_feeds()
    np.testing.assert_allclose(run(smooth(graph, feeds), feeds[0])["y"], run(graph, feeds[0])["y"], atol=1e-5)


def test_scales_are_those_of_equation_4() -> None:
    graph, feeds = lopsided(), row_feeds()
    before, after = arrays(graph), arrays(smooth(graph, feeds, alpha=0.6))
    rows = np.concatenate([feed["x"] for feed in feeds])
    normal = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)
    loudest = np.abs(normal * before["scale"] + before["shift"]).max(0)
    heaviest = np.abs(before["loud.weight"]).max(1)
    s = loudest**0.6 / heaviest**0.4
    np.testing.assert_allclose(after["scale.smooth.norm"], before["scale"] / s, rtol=1e-4)
    np.testing.assert_allclose(after["shift.smooth.norm"], before["shift"] / s, rtol=1e-4)
    np.testing.assert_allclose(after["loud.weight.smooth.loud"], before["loud.weight"] * s[:, None], rtol=1e-4)


def two_norms() -> bytes:
    """Two normalisations with one scale and one weight between them; a Gemm and a MatMul read the second."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale"], ["n1"], name="norm1"),
        helper.make_node("MatMul", ["n1", "w"], ["a"], name="first"),
        helper.make_node("LayerNormalization", ["a", "scale"], ["n2"], name="norm2"),
        helper.make_node("MatMul", ["n2", "w"], ["b"], name="second"),
        helper.make_node("Gemm", ["n2", "wt"], ["c"], name="third", transB=1),
        helper.make_node("Add", ["b", "c"], ["y"], name="add"),
    ]
    return product(*nodes, scale=np.ones(64, np.float32), w=weight(64, 64), wt=weight(64, 64, seed=4))


def test_norms_and_layers_that_share_weights_each_get_their_own() -> None:
    graph, feeds = two_norms(), row_feeds()
    changed = smooth(graph, feeds)
    np.testing.assert_allclose(run(changed, feeds[0])["y"], run(graph, feeds[0])["y"], atol=1e-5)
    named = set(arrays(changed)) - set(arrays(graph))
    assert {name.rpartition(".")[2] for name in named} == {"norm1", "norm2", "first", "second", "third"}


def read_elsewhere() -> bytes:
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale"], ["n"], name="norm"),
        helper.make_node("MatMul", ["n", "w"], ["m"], name="layer"),
        helper.make_node("Add", ["m", "n"], ["y"], name="residual"),
    ]
    return product(*nodes, scale=np.ones(64, np.float32), w=weight(64, 64))


def is_output() -> bytes:
    model = onnx.load_from_string(lopsided())
    model.graph.output.append(helper.make_tensor_value_info("n", onnx.TensorProto.FLOAT, None))
    serialised: bytes = model.SerializeToString()
    return serialised


@pytest.mark.parametrize("graph", [product(), read_elsewhere(), is_output()], ids=["no norm", "residual", "output"])
def test_a_norm_that_others_read_stays_as_it_is(graph: bytes) -> None:
    assert not can_smooth(prepared(graph))
    with pytest.raises(RecipeError, match="smooth needs a LayerNormalization that only layers read"):
        smooth(graph, row_feeds())
