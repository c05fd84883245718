"""Every rule of the TensorRT check: a small graph that is refused, and its neighbour that is not.

The graphs are legal ONNX: the checker says so. What TensorRT really takes is known from its parser's table and source
only; no TensorRT has run here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import ModelProto, helper, parser
from tiny import VISION
from torch import Tensor, nn

from sanderling import lookup
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.vision import VisionEncoder
from sanderling.compile.export import export
from sanderling.spec import Component, TensorSpec
from sanderling.targets.rules.graph_facts import facts
from sanderling.targets.rules.tensorrt import refusals, source_line
from sanderling.targets.rules.tensorrt_operators import (
    DATA_INPUT,
    FIXED_INPUTS,
    FORMATS,
    INSTEAD,
    MOST_K,
    SHAPE_INPUTS,
)
from sanderling.targets.rules.tensorrt_settings import SETTINGS


def model(text: str, opset: int = 20) -> ModelProto:
    """Return a graph written as ONNX text, after the checker has found it legal."""
    read = parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}, "my.ops": 1]> {text}')
    onnx.checker.check_model(read)
    return read


LONG = "g (float[1, 8000] x) => (float[1, k] v, int64[1, k] i) <int64[1] K = {%d}> { v, i = TopK(x, K) }"
RESIZE = (
    "g (float[1, 3, 8, 8] x) => (float[1, 3, h, w] y) <float[4] s = {1.0, 1.0, 2.0, 2.0}> "
    "{ y = Resize <mode = %s> (x, , s) }"
)
GRID = 'g (float[%s] x, float[%s] at) => (float[%s] y) { y = GridSample <mode = "linear"> (x, at) }'
SCATTER = (
    "g (float[4, 3] x, float[2, 3] u) => (float[4, 3] y) <int64[2, 1] i = {0, 2}> "
    '{ y = ScatterND <reduction = "%s"> (x, i, u) }'
)
ELEMENTS = (
    "g (float[4] x, float[2] u) => (float[4] y) <int64[2] i = {0, 2}> "
    '{ y = ScatterElements <reduction = "%s"> (x, i, u) }'
)
POOL = "g (float[1, 3, 8, 8] x) => (float[1, 3, h, w] y) { y = %s (x) }"
QUANTIZE = "g (float[4] x) => (%s[4] y) <float s = {0.5}, %s z = {%d}> { y = QuantizeLinear (x, s, z) }"
BRANCH = (
    "g (bool c, float[2, 2] x) => (float[2, 2] y) { "
    "y = If (c) <then_branch = t () => (float[2, 2] %s) { %s = Relu (x) }, "
    "else_branch = e () => (float[2, 2] b) { b = Neg (x) }> }"
)
RANKS = (
    "g (bool c, float[2, 2] x) => (float[a, b] y) { "
    "y = If (c) <then_branch = t () => (float[2, 2] a) { a = Relu (x) }, "
    "else_branch = e () => (float[%s] b) <int64[%d] s = {%s}> { b = Reshape (x, s) }> }"
)
COLLECT = (
    "g (int64 n, bool c, float[2] x) => (float[2] last, float[m, 2] all) {%s last, all = Loop (%s, c, x) <body = b "
    "(int64 i, bool go, float[2] a) => (bool on, float[2] z, float[2] each) "
    "{ on = Identity (go)  z = Add (a, a)  each = Identity (z) }> }"
)
CARRY = (
    "g (int64 n, bool c, float[2] x) => (float[d] last) { last = Loop (n, c, x) <body = b "
    "(int64 i, bool go, float[2] a) => (bool on, float[%d] z) { on = Identity (go)  z = %s (a, a) }> }"
)
GRU = (
    "g (float[3, 1, 2] x, float[2, 6, 2] w, float[2, 6, 2] r) => (float[3, 2, 1, 2] y) { y = GRU <hidden_size = 2, "
    'direction = "bidirectional", activations = ["Sigmoid", "Tanh", "Sigmoid", %s]> (x, w, r) }'
)
LSTM = (
    "g (float[3, 1, 2] x, float[1, 8, 2] w, float[1, 8, 2] r) => (float[3, 1, 1, 2] y) "
    "{ y = LSTM <hidden_size = 2, input_forget = %d> (x, w, r) }"
)
DROP = "g (float[4] x) => (float[4] y) <float r = {0.5}, bool t = {%d}> { y = Dropout (x, r, t) }"
EINSUM = 'g (float[2, 2] a, float[2, 2] b) => (float[a, b] y) { y = Einsum <equation = "%s"> (a, b) }'

CASES: list[Any] = [
    pytest.param(LONG % 3840, LONG % MOST_K, "TopK", "K is 3840; TensorRT takes at most 3839", id="TopK, K"),
    pytest.param(
        "g (float[1, 9] x) => (float[1, 2] v, int64[1, 2] i) <int64[1] k = {2}> { v, i = TopK <sorted = 0> (x, k) }",
        "g (float[1, 9] x) => (float[1, 2] v, int64[1, 2] i) <int64[1] k = {2}> { v, i = TopK <sorted = 1> (x, k) }",
        "TopK", "sorted is 0", id="TopK, unsorted",
    ),
    pytest.param(
        "g (float[1, 9] x) => (float[1, n] v, int64[1, n] i) <int64[1] one = {1}> "
        "{ m = ReduceMax <keepdims = 0> (x)  n = Cast <to = 7> (m)  k = Reshape (n, one)  v, i = TopK (x, k) }",
        "g (float[1, 9] x, int64 n) => (float[1, k] v, int64[1, k] i) <int64[1] one = {1}> "
        "{ k = Reshape (n, one)  v, i = TopK (x, k) }",
        "TopK", "depends on 'k', which is computed from data; make it an input", id="TopK, K from data",
    ),
    pytest.param(RESIZE % '"cubic"', RESIZE % '"linear"', "Resize", "mode is cubic", id="Resize, cubic"),
    pytest.param(
        RESIZE % '"linear", antialias = 1', RESIZE % '"linear", antialias = 0', "Resize", "antialias is 1",
        id="Resize, antialias",
    ),
    pytest.param(
        RESIZE % '"linear", coordinate_transformation_mode = "half_pixel_symmetric"',
        RESIZE % '"linear", coordinate_transformation_mode = "align_corners"',
        "Resize", "coordinate_transformation_mode is half_pixel_symmetric", id="Resize, coordinates",
    ),
    pytest.param(
        RESIZE % '"nearest", coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor"',
        RESIZE % '"nearest", coordinate_transformation_mode = "tf_half_pixel_for_nn"',
        "Resize", "nearest_mode is floor", id="Resize, rounding",
    ),
    pytest.param(
        "g (float[1, 3, 8, 8] x) => (float[1, 3, h, w] y) <int64[2] s = {9, 9}> "
        '{ y = Resize <axes = [2, 3], keep_aspect_ratio_policy = "not_larger"> (x, , , s) }',
        "g (float[1, 3, 8, 8] x) => (float[1, 3, h, w] y) <int64[2] s = {9, 9}> "
        "{ y = Resize <axes = [2, 3]> (x, , , s) }",
        "Resize", "keep_aspect_ratio_policy is not_larger", id="Resize, aspect",
    ),
    pytest.param(
        "g (float[1, 3, 8, 8] x) => (float[1, 3, h, w] y) <float[2] s = {2.0, 2.0}> "
        "{ y = Resize <axes = [2, 3]> (x, , s) }",
        RESIZE % '"nearest", axes = [0, 1, 2, 3]',
        "Resize", r"axes are \[2, 3\] of 4", id="Resize, axes with scales",
    ),
    pytest.param(
        GRID % ("1, 1, 4, 4, 4", "1, 2, 2, 2, 3", "1, 1, 2, 2, 2"), GRID % ("1, 1, 4, 4", "1, 2, 2, 2", "1, 1, 2, 2"),
        "GridSample", "rank 5; TensorRT takes 4", id="GridSample, 5-D",
    ),
    pytest.param(SCATTER % "add", SCATTER % "none", "ScatterND", "reduction is add", id="ScatterND, reduction"),
    pytest.param(ELEMENTS % "add", ELEMENTS % "none", "ScatterElements", "reduction is add", id="ScatterElements"),
    pytest.param(
        "g (float[8] x) => (int64[1, n] y) { y = NonZero (x) }",
        "g (float[8] x, float[8] z) => (float[8] y) { c = Less (x, z)  y = Where (c, x, z) }",
        "NonZero", "depends on what is computed", id="NonZero",
    ),
    pytest.param(
        "g (float[1, 6, 4] b, float[1, 1, 6] s) => (int64[n, 3] y) { y = NonMaxSuppression (b, s) }",
        "g (float[1, 1, 6] s) => (float[1, 1, 2] v, int64[1, 1, 2] i) <int64[1] k = {2}> { v, i = TopK (s, k) }",
        "NonMaxSuppression", "depends on what is computed", id="NonMaxSuppression",
    ),
    pytest.param(
        "g (float[6] x, int64[2, 1] n) => (float[a, b] y) <int64[1] m = {-1}> "
        "{ s = Reshape (n, m)  y = Reshape (x, s) }",
        "g (float[6] x, int64[2] n) => (float[a, b] y) { y = Reshape (x, n) }",
        "Reshape", "depends on 's'", id="a shape computed from data",
    ),
    pytest.param(
        "g (float[4] x) => (float[n] y) <float z = {0.0}, float d = {1.0}> "
        "{ m = ReduceMax <keepdims = 0> (x)  y = Range (z, m, d) }",
        "g (int64 m) => (int64[n] y) <int64 z = {0}, int64 d = {1}> { y = Range (z, m, d) }",
        "Range", "depends on 'm'", id="Range to a computed end",
    ),
    pytest.param(
        "g (float[8] x, float p) => (int32[1, 2] y) { y = Multinomial <sample_size = 2> (x2)  }".replace(
            "{ y", "<int64[2] s = {1, 8}> { x2 = Reshape (x, s)  y"
        ),
        "g (float[8] x) => (float[8] y) { y = Softmax (x) }",
        "Multinomial", "TensorRT has no operator Multinomial", id="Multinomial",
    ),
    pytest.param(
        "g (int64[8] x) => (int64[n] y) { y = Unique (x) }", "g (int64[8] x) => (int64[8] y) { y = Identity (x) }",
        "Unique", "TensorRT has no operator Unique", id="Unique",
    ),
    pytest.param(
        "g (float[2] x) => (float[2] y) { y = my.ops.Relu (x) }", "g (float[2] x) => (float[2] y) { y = Relu (x) }",
        "Relu", "of domain 'my.ops'; it would need a plugin", id="another domain",
    ),
    pytest.param(
        "g (float[2, 4] x, int32 a) => (float[2, 4] y) { y = CumSum (x, a) }",
        "g (float[2, 4] x) => (float[2, 4] y) <int32 a = {1}> { y = CumSum (x, a) }",
        "CumSum", "its axis 'a' must be a constant", id="CumSum, axis",
    ),
    pytest.param(
        "g (float[2, 4] x, int64[1] a) => (float[a, b] y) { y = ReduceSum (x, a) }",
        "g (float[2, 4] x) => (float[a, b] y) <int64[1] a = {1}> { y = ReduceSum (x, a) }",
        "ReduceSum", "its axes 'a' must be a constant", id="axes at run time",
    ),
    pytest.param(
        "g (int64[2] x, int64 d, float[2] v) => (float[2, n] y) { y = OneHot (x, d, v) }",
        "g (int64[2] x, float[2] v) => (float[2, 3] y) <int64 d = {3}> { y = OneHot (x, d, v) }",
        "OneHot", "its depth 'd' must be a constant", id="OneHot, depth",
    ),
    pytest.param(
        "g (double[2] x) => (double[2] y) { y = Relu (x) }", "g (float[2] x) => (float[2] y) { y = Relu (x) }",
        "Relu", "float64, which TensorRT would compute in float32", id="float64",
    ),
    pytest.param(
        "g (int64[2, 2] x) => (int64[2, 2] y) { y = MatMul (x, x) }",
        "g (int64[2, 2] x) => (int64[2, 2] y) { y = Mul (x, x) }",
        "MatMul", "int64; TensorRT's MatMul takes bfloat16, float16, float32", id="int64 in a product",
    ),
    pytest.param(
        "g (int8[2] x) => (int8[2] y) { y = Add (x, x) }", "g (int32[2] x) => (int32[2] y) { y = Add (x, x) }",
        "Add", "int8; TensorRT's Add takes", id="int8 outside quantization",
    ),
    pytest.param(EINSUM % "ij,jK->iK", EINSUM % "ij,jk->ik", "Einsum", "lower-case letters only", id="Einsum, letters"),
    pytest.param(EINSUM % "ii,jk->jk", EINSUM % "il,jk->jk", "Einsum", r"a diagonal .*\(ii\)", id="Einsum, diagonal"),
    pytest.param(BRANCH % ("b", "b"), BRANCH % ("a", "a"), "If", "call an output 'b'", id="If, equal names"),
    pytest.param(RANKS % ("4", 1, "4"), RANKS % ("4, 1", 2, "4, 1"), "If", "ranks 2 and 1", id="If, ranks"),
    pytest.param(
        COLLECT % ("", "n"), COLLECT % (" t = Constant <value = int64 {3}> () ", "t"), "Loop", "constant trip count",
        id="Loop, collecting",
    ),
    pytest.param(
        CARRY.replace("%s (a, a)", "Concat <axis = 0> (a, a)") % 4, CARRY % (2, "Add"), "Loop",
        r"'a' goes from \[2\] to \[4\]", id="Loop, growing",
    ),
    pytest.param(
        POOL % "MaxPool <kernel_shape = [2, 2], dilations = [2, 2]>", POOL % "MaxPool <kernel_shape = [2, 2]>",
        "MaxPool", "dilations are", id="pooling, dilated",
    ),
    pytest.param(
        "g (float[1, 3, 8] x) => (float[1, 3, n] y) { y = AveragePool <kernel_shape = [2]> (x) }",
        POOL % "AveragePool <kernel_shape = [2, 2]>",
        "AveragePool", "rank 3; TensorRT takes 4 or 5", id="pooling, 1-D",
    ),
    pytest.param(
        "g (float[1, 3, 8, 8] x) => (float[1, 3, h, w] y, int64[1, 3, h, w] i) "
        "{ y, i = MaxPool <kernel_shape = [2, 2]> (x) }",
        POOL % "MaxPool <kernel_shape = [2, 2]>",
        "MaxPool", "only its first 1 of the 2 outputs", id="MaxPool, places",
    ),
    pytest.param(
        "g (float[1, 3, 8, 8] x) => (float[1, 3, h, w] y) { y = LpPool <kernel_shape = [2, 2], p = 3> (x) }",
        "g (float[1, 3, 8, 8] x) => (float[1, 3, h, w] y) { y = LpPool <kernel_shape = [2, 2], p = 2> (x) }",
        "LpPool", "p is 3", id="LpPool, order",
    ),
    pytest.param(
        "g (float[2, 4] x, float[4] s) => (float[2, 4] y, float[2, 1] m) { y, m = LayerNormalization (x, s) }",
        "g (float[2, 4] x, float[4] s) => (float[2, 4] y) { y = LayerNormalization (x, s) }",
        "LayerNormalization", "only its first 1", id="LayerNormalization, mean",
    ),
    pytest.param(
        QUANTIZE % ("int8", "int8", 3), QUANTIZE % ("int8", "int8", 0), "QuantizeLinear", "its zero point is not 0",
        id="quantization, zero point",
    ),
    pytest.param(
        QUANTIZE % ("uint8", "uint8", 0), QUANTIZE % ("int8", "int8", 0), "QuantizeLinear", "its zero point is uint8",
        id="quantization, unsigned",
    ),
    pytest.param(GRU % '"Relu"', GRU % '"Tanh"', "GRU", "different activations", id="recurrence, two ways"),
    pytest.param(LSTM % 1, LSTM % 0, "LSTM", "input_forget is 1", id="LSTM, coupled gates"),
    pytest.param(
        LSTM.replace("float[3, 1, 2] x", "float[1, 3, 2] x").replace("[3, 1, 1, 2]", "[1, 3, 1, 2]").replace(
            "input_forget", "layout"
        ) % 1,
        LSTM % 0, "LSTM", "layout is 1", id="LSTM, batch first",
    ),
    pytest.param(
        'g () => (string[2] y) { y = Constant <value_strings = ["a", "b"]> () }',
        "g () => (float[2] y) { y = Constant <value_floats = [1.0, 2.0]> () }",
        "Constant", "does not take its value_strings", id="Constant, texts",
    ),
    pytest.param(
        "g (float[2] x) => (double[2] y) { y = RandomNormalLike <dtype = 11> (x) }",
        "g (float[2] x) => (float16[2] y) { y = RandomNormalLike <dtype = 10> (x) }",
        "RandomNormalLike", "float64", id="random, float64",
    ),
    pytest.param(
        "g (int8[4] x) => (float[4] y) <float s = {0.5}, int8 z = {1}> { y = DequantizeLinear (x, s, z) }",
        "g (int8[4] x) => (float[4] y) <float s = {0.5}, int8 z = {0}> { y = DequantizeLinear (x, s, z) }",
        "DequantizeLinear", "its zero point is not 0", id="dequantization, zero point",
    ),
    pytest.param(DROP % 1, DROP % 0, "Dropout", "export the model in eval mode", id="Dropout, training"),
    pytest.param(
        "g (float[2] x) => (float[2] y) { y = RandomNormalLike <seed = 1.0> (x) }",
        "g (float[2] x) => (float[2] y) { y = RandomNormalLike (x) }",
        "RandomNormalLike", "does not take its seed", id="random, seeded",
    ),
    pytest.param(
        "g (float[n, 4] x) => (float[n, 4] y) { y = EyeLike (x) }",
        "g (float[4, 4] x) => (float[4, 4] y) { y = EyeLike (x) }",
        "EyeLike", "known only at run time", id="EyeLike, free axis",
    ),
    pytest.param(
        "g (float[2, n] x) => (float[2, n] y) { y = Hardmax (x) }",
        "g (float[n, 2] x) => (float[n, 2] y) { y = Hardmax (x) }",
        "Hardmax", "axis -1", id="Hardmax, free axis",
    ),
    pytest.param(
        "g (float[1, 2, 8] x, float[3, 2, 3] w, float[1, 3, 9] o) => (float[1, 3, 9] y) "
        "{ y = DeformConv <pads = [1, 2]> (x, w, o) }",
        "g (float[1, 2, 8] x, float[3, 2, 3] w, float[1, 3, 8] o) => (float[1, 3, 8] y) "
        "{ y = DeformConv <pads = [1, 1]> (x, w, o) }",
        "DeformConv", r"pads are \[1, 2\]", id="DeformConv, pads",
    ),
    pytest.param(
        "g (float[2, 4] x, float[4] s, float[4] b, float[4] m, float[4] v) => (float[2, 4] y, float[4] p, float[4] q) "
        "{ y, p, q = BatchNormalization <training_mode = 1> (x, s, b, m, v) }",
        "g (float[2, 4] x, float[4] s, float[4] b, float[4] m, float[4] v) => (float[2, 4] y) "
        "{ y = BatchNormalization (x, s, b, m, v) }",
        "BatchNormalization", "training_mode is 1", id="BatchNormalization, training",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("refused", "allowed", "operator", "reason"), CASES)
def test_each_rule_refuses_what_it_is_about_and_not_its_neighbour(
    refused: str, allowed: str, operator: str, reason: str
) -> None:
    (refusal,) = refusals(model(refused))
    assert refusal.operator == operator
    assert re.search(reason, refusal.reason)
    assert refusals(model(allowed)) == ()


def test_an_opset_that_the_parser_does_not_read_is_refused_as_a_whole() -> None:
    text = "g (float[2] x) => (float[2] y) { y = Relu (x) }"
    assert refusals(model(text, opset=20)) == ()
    (refusal,) = refusals(model(text, opset=21))
    assert "opset 21; TensorRT 10 reads opsets 9 to 20" in refusal.reason


def test_what_is_inside_a_function_or_a_branch_is_checked_too() -> None:
    body = [helper.make_node("Det", ["a"], ["b"], name="inner")]
    inside = helper.make_function("my.ops", "Volume", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    read = model("g (float[2, 2] x) => (float y) { y = my.ops.Volume (x) }")
    read.functions.append(inside)
    assert [(refusal.operator, refusal.reason) for refusal in refusals(read)] == [
        ("Det", "TensorRT has no operator Det")
    ]
    nested = BRANCH % ("a", "a")
    assert [refusal.operator for refusal in refusals(model(nested.replace("Relu (x)", "Unique (x)")))] == ["Unique"]


def test_every_node_that_is_refused_is_named_in_order() -> None:
    read = model("g (float[2, 2] x) => (float y) { z = my.ops.Twice (x)  y = Det (z) }")
    for node, name in zip(read.graph.node, ("first", "second"), strict=True):
        node.name = name
    assert [(refusal.operator, refusal.node) for refusal in refusals(read)] == [("Twice", "first"), ("Det", "second")]


class Chooses(nn.Module):
    """Keeps the rows whose first number is above zero: how many is not known beforehand."""

    def forward(self, rows: Tensor) -> Tensor:
        chosen = rows[:, 0].gt(0).nonzero()[:, 0]  # the line that the refusal has to name
        return rows[chosen].sum(0)


def test_a_refusal_names_the_line_of_python_and_our_rewrite() -> None:
    rows, total = TensorSpec("rows", "float32", (8, 4)), TensorSpec("total", "float32", (4,))
    graph = export(Chooses(), Component("c", (rows,), (total,)), (torch.randn(8, 4),), {})
    first = refusals(onnx.load_from_string(graph))[0]
    lines = Path(__file__).read_text().splitlines()
    expected = next(number for number, line in enumerate(lines, 1) if "the line that the refusal" in line)
    assert first.operator == "NonZero"
    assert first.source == f"test_tensorrt_rules.py:{expected}"
    assert first.instead == INSTEAD["NonZero"]
    assert re.fullmatch(
        rf"operator NonZero at node '.+' \(test_tensorrt_rules.py:{expected}\): .+; instead, score, TopK.+", str(first)
    )


def test_without_a_stack_trace_there_is_no_line() -> None:
    assert source_line(helper.make_node("Relu", ["x"], ["y"])) == ""
    assert str(refusals(model("g (float[2, 2] x) => (float y) { y = Det (x) }"))[0]) == (
        "operator Det at node '': TensorRT has no operator Det"
    )


def test_the_table_is_about_operators_that_onnx_has() -> None:
    # TensorRT also reads three that ONNX dropped long ago.
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    assert set(FORMATS) - known <= {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
    for table in (DATA_INPUT, FIXED_INPUTS, SHAPE_INPUTS, SETTINGS):
        assert set(table) <= set(FORMATS)
    assert set(INSTEAD) <= known


def test_values_that_follow_from_shapes_are_told_from_values_that_are_computed() -> None:
    read = model(
        "g (float[n, 4] x, int64 keep, int64[2, 2] ids) => (float[a] y, int64[2, 2] z) <int64[1] one = {1}> "
        "{ s = Shape (x)  k = Reshape (keep, one)  both = Concat <axis = 0> (s, k)  f = ReduceSum (x)  "
        "i = Cast <to = 7> (f)  z = Add (ids, ids)  y = Reshape (x, one) }"
    )
    found = facts(read)
    assert {"s", "k", "both", "keep", "one"} <= found.early
    assert not {"x", "f", "i", "z", "ids", "y"} & found.early
    assert found.lengths["x"] == (0, 4)
    assert found.formats["keep"] == "int64"


class Looking(nn.Module):
    """A vision encoder that is told how much each patch matters to a text; some reducers need it."""

    def __init__(self, reduce_at: ReduceAt) -> None:
        super().__init__()
        self.encoder = VisionEncoder(VISION, reduce_at)

    def forward(self, pixels: Tensor, relevance: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.encoder(pixels, keep, relevance)
        return tokens.rows, tokens.kept


LOOKING = Component(
    "vision",
    (TensorSpec("pixels", "float32", ("batch", 3, 32, 32)), TensorSpec("relevance", "float32", ("batch", 16))),
    (TensorSpec("rows", "float32", ("batch", "n", 32)), TensorSpec("kept", "int64", ("batch", "n"))),
)


def encoders() -> list[Any]:
    return [(name, layer) for name in lookup.names("reducer") for layer in (0, 1)]


@pytest.mark.parametrize(("reducer", "layer"), encoders())
def test_every_reducer_at_every_kind_of_site_passes(reducer: str, layer: int) -> None:
    module = Looking(ReduceAt(lookup.find("reducer", reducer), layer)).eval()
    pixels, relevance = torch.randn(2, 3, 32, 32), torch.randn(2, VISION.tokens)
    graph = export(module, LOOKING, (pixels, relevance), {"tokens.image": 8})
    assert list(map(str, refusals(onnx.load_from_string(graph)))) == []
