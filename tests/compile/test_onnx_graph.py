"""What number formats see of a graph, and the one form they write."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from format_graphs import arrays, lopsided, operators, product, row_feeds, run, scene_vision, weight
from onnx import TensorProto, helper, numpy_helper

from sanderling.compile.onnx_graph import canonical, check_converted, gemms_as_products, layers, prepared, unmatched
from sanderling.errors import RecipeError


def test_layers_are_products_with_constant_weights_under_names_that_people_know() -> None:
    found = layers(prepared(scene_vision()))
    assert len(found) == 37
    by_bias = {layer.bias: layer for layer in found}
    assert by_bias["encoder.layers.3.mlp.fc2.bias"].matches(["*layers.3.mlp*"])
    assert unmatched(found, ["*layers.3.mlp*", "*layers.9*"]) == ("*layers.9*",)


def test_constant_nodes_are_weights_and_nameless_nodes_get_names() -> None:
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight(64, 32)))
    twice = [helper.make_node("MatMul", ["x", "w"], [out]) for out in ("a", "b")]
    model = prepared(product(constant, *twice, helper.make_node("Add", ["a", "b"], ["y"]), unused=weight(2, 2)))
    names = [layer.node for layer in layers(model)]
    assert len(set(names)) == 2
    assert all(names)


def test_weights_that_are_inputs_too_are_inputs_no_more() -> None:
    model = onnx.load_from_string(product())
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [64, 32]))
    assert [value.name for value in prepared(model.SerializeToString()).graph.input] == ["x"]


@pytest.mark.parametrize("bias", ["bias", "computed", ""])
@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_written_as_product_computes_the_same(transposed: int, bias: str) -> None:
    w = np.ascontiguousarray(weight(64, 32).T) if transposed else weight(64, 32)
    nodes = [
        helper.make_node("Neg", ["negative"], ["computed"]),
        helper.make_node("Gemm", ["x", "w", bias], ["y"], name="gemm", alpha=3.0, beta=1.0, transB=transposed),
    ]
    one = np.ones(32, np.float32)
    model = prepared(product(*nodes, w=w, bias=one, negative=-one))
    written = gemms_as_products(model, layers(model)).SerializeToString()
    assert "Gemm" not in operators(written)
    feed = row_feeds(1)[0]
    np.testing.assert_allclose(run(written, feed)["y"], run(model.SerializeToString(), feed)["y"], atol=1e-5)


def test_the_canonical_form_does_not_depend_on_the_order_of_nodes_and_weights_or_on_notes() -> None:
    graph = lopsided()
    shuffled = onnx.load_from_string(graph)
    nodes, tensors = list(shuffled.graph.node), list(shuffled.graph.initializer)
    for field, found in (("node", nodes[::-1]), ("initializer", tensors[::-1])):
        shuffled.graph.ClearField(field)
        getattr(shuffled.graph, field).extend(found)
    shuffled.graph.initializer.append(numpy_helper.from_array(weight(4, 4), "nobody reads this"))
    shuffled.graph.node[0].doc_string = "written at noon"
    shuffled.producer_name = "somebody"
    assert canonical(shuffled, graph) == canonical(onnx.load_from_string(graph), graph)


def test_the_canonical_form_keeps_what_bodies_inside_nodes_read() -> None:
    outputs = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    body = helper.make_graph([helper.make_node("MatMul", ["t", "w"], ["b"])], "body", [], outputs)
    nodes = [
        helper.make_node("Identity", ["x"], ["t"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=body),
    ]
    graph = product(*nodes, w=weight(64, 32), yes=np.asarray(True))
    kept = canonical(onnx.load_from_string(graph), graph)
    assert operators(kept) == ["Identity", "If"]
    assert set(arrays(kept)) == {"w", "yes"}
    feed = row_feeds(1)[0]
    np.testing.assert_array_equal(run(kept, feed)["y"], run(graph, feed)["y"])


def test_a_layer_that_a_library_passed_over_is_not_taken_for_converted() -> None:
    model = prepared(lopsided())
    found = layers(model)
    check_converted(model, model, [], "none")
    with pytest.raises(RecipeError, match="leaves 1 of 1 layers in float32, the first 'plain'"):
        check_converted(model, model, found[1:], "int8_dynamic")
