"""The loss is found where it was made, and leaving that layer out brings the outputs back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from format_graphs import (
    ALL,
    cosine,
    lopsided,
    number_format,
    product,
    row_feeds,
    run,
    scene_feeds,
    scene_vision,
    weight,
)
from onnx import helper, numpy_helper

from sanderling.compile.locate import locate
from sanderling.compile.onnx_graph import layers, prepared
from sanderling.errors import InputError

FULL = scene_feeds(range(20, 23), (ALL,))
DAMAGED = "encoder.layers.3.mlp.fc1.bias"


def damaged(graph: bytes, bias: str) -> tuple[bytes, str]:
    """Return the graph with noise on the weights of the layer with this bias, and its node."""
    model = prepared(graph)
    layer = next(layer for layer in layers(model) if layer.bias == bias)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == layer.weight)
    array = numpy_helper.to_array(tensor)
    noise = np.random.default_rng(0).standard_normal(array.shape).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array + 0.5 * array.std() * noise, tensor.name))
    return model.SerializeToString(), layer.node


@pytest.mark.parametrize("bias", [DAMAGED, "encoder.layers.0.self_attn.k_proj.bias", "encoder.patch_embedding.bias"])
def test_a_damaged_layer_is_the_first_named(bias: str) -> None:
    after, node = damaged(scene_vision(), bias)
    found = locate(scene_vision(), after, FULL, bound=0.9995)
    assert found.first is not None
    assert found.first.node == node
    assert found.exclude[0] == node
    before = found.rows[: found.rows.index(found.first)]
    assert all(row.cosine > 0.99999 for row in before)


def test_excluding_what_is_suggested_brings_the_outputs_back_within_the_bound() -> None:
    graph, feeds, bound = lopsided(), row_feeds(), 0.999
    chosen = number_format("int8_dynamic")
    found = locate(graph, chosen.convert(graph, (), "onnxruntime"), feeds, bound)
    assert found.first is not None
    assert found.first.node == "loud"
    assert found.rows[-1].cosine < bound
    again = replace(chosen, exclude=found.exclude).convert(graph, (), "onnxruntime")
    assert locate(graph, again, feeds, bound).first is None
    assert cosine(run(again, feeds[0])["y"], run(graph, feeds[0])["y"]) > bound


def test_rows_are_in_the_order_of_the_graph_and_say_how_far_each_tensor_is() -> None:
    graph, feeds = lopsided(), row_feeds(3)
    after = number_format("int8_dynamic").convert(graph, (), "onnxruntime")
    rows = {row.tensor: row for row in locate(graph, after, feeds).rows}
    assert list(rows) == ["n", "m", "g", "p", "y"]
    wanted, got = (np.stack([run(g, feed)["y"] for feed in feeds]) for g in (graph, after))
    cosines = [cosine(a, b) for a, b in zip(wanted, got, strict=True)]
    assert rows["y"].cosine == pytest.approx(min(cosines))
    assert rows["y"].worst_sample == int(np.argmin(cosines))
    assert rows["y"].snr_db == pytest.approx(10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()), rel=1e-4)
    assert (rows["m"].operator, rows["m"].node) == ("MatMul", "loud")


def test_what_a_layer_adds_is_not_what_it_was_given() -> None:
    graph, feeds = lopsided(), row_feeds(3)
    found = locate(graph, number_format("int8_dynamic").convert(graph, (), "onnxruntime"), feeds)
    added = {row.node: row.added for row in found.rows}
    assert added["loud"] > 10 * added["plain"]


def test_what_a_layer_adds_is_seen_behind_layers_that_lost_more() -> None:
    """Two layers are damaged, the second less: the second still tells its own noise from what it was given."""
    first, node = damaged(scene_vision(), DAMAGED)
    both, later = damaged(first, "encoder.layers.4.mlp.fc2.bias")
    added = {row.node: row.added for row in locate(scene_vision(), both, FULL[:1]).rows}
    noisiest = sorted((name for name in added if "MatMul" in name), key=lambda name: -added[name])
    assert set(noisiest[:2]) == {node, later}
    assert added[noisiest[2]] < 1e-6 < added[noisiest[1]]


def test_smoothed_normalisations_are_not_taken_for_drift() -> None:
    graph, feeds = lopsided(), row_feeds()
    after = replace(number_format("int8_dynamic"), smooth=0.5).convert(graph, feeds, "onnxruntime")
    found = locate(graph, after, feeds)
    assert found.first is None
    assert "n" not in [row.tensor for row in found.rows]


def test_the_noise_of_a_gemm_is_its_own() -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="gemm", alpha=2.0, beta=0.5)
    graph = product(node, w=weight(64, 32), b=np.ones(32, np.float32))
    (row,) = locate(graph, number_format("int8_dynamic").convert(graph, (), "onnxruntime"), row_feeds(2)).rows
    assert row.added == pytest.approx(10 ** (-row.snr_db / 10), rel=1e-3)


def test_equal_graphs_differ_nowhere() -> None:
    found = locate(lopsided(), lopsided(), row_feeds(2), bound=1 - 1e-12)
    assert (found.first, found.exclude) == (None, ())
    assert all(row.snr_db == np.inf for row in found.rows)
    assert max(row.added for row in found.rows) < 1e-12


def test_another_choice_of_tokens_is_a_drift_of_its_own() -> None:
    after, _ = damaged(scene_vision(), "encoder.layers.0.self_attn.k_proj.bias")
    found = locate(scene_vision(), after, scene_feeds(range(20, 23), (9,)), bound=0.0)
    chosen = [row for row in found.rows if row.operator == "TopK"]
    assert min(row.cosine for row in chosen) < 1


def test_targets_are_compared_as_well_as_formats() -> None:
    found = locate(scene_vision(), scene_vision(), FULL[:1], bound=0.99999, targets=("onnxruntime", "openvino"))
    assert found.first is None
    assert any(np.isfinite(row.snr_db) for row in found.rows)


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_layers_are_suggested_than_asked_for(most: int) -> None:
    after = number_format("int4_weights").convert(scene_vision(), (), "onnxruntime")
    assert len(locate(scene_vision(), after, FULL[:1], bound=0.998, most=most).exclude) == most


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(InputError, match="no samples"):
        locate(lopsided(), lopsided(), [])
    model = onnx.load_from_string(product())
    for node in model.graph.node:
        node.output[0] = "other"
    model.graph.output[0].name = "other"
    with pytest.raises(InputError, match="no tensor in common"):
        locate(product(), model.SerializeToString(), row_feeds(1))


def test_tensors_of_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"tensor 'y' is \[3, 32\] in one graph and \[3, 16\] in the other"):
        locate(product(), product(w=np.ones((64, 16), np.float32)), row_feeds(1))
