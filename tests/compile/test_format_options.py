"""Options of the number formats: each changes the result, and in the way it says."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from format_graphs import (
    arrays,
    cosine,
    lopsided,
    number_format,
    operators,
    product,
    row_feeds,
    run,
    scene_feeds,
    scene_vision,
    weight,
    with_opset,
)
from onnx import helper

from sanderling import lookup
from sanderling.compile.number_format import for_device
from sanderling.compile.quiet import quiet
from sanderling.errors import InputError, RecipeError

FEEDS = row_feeds()


def convert(name: str, graph: bytes, target: str = "onnxruntime", **options: Any) -> bytes:
    converted: bytes = replace(number_format(name), **options).convert(graph, FEEDS, target)
    return converted


def fused(graph: bytes, folder: Path) -> list[str]:
    """Return the operators that ONNX Runtime really runs."""
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(folder / "fused.onnx")
    settings.log_severity_level = 4
    onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "fused.onnx").graph.node]


def test_onnx_runtime_runs_every_layer_of_dynamic_int8_in_integers(tmp_path: Path) -> None:
    graph = scene_vision()
    ran = fused(number_format("int8_dynamic").convert(graph, (), "onnxruntime"), tmp_path)
    # 37 layers with weights: those whose input nobody else reads, and those that share it. 12 products of attention.
    assert ran.count("DynamicQuantizeMatMul") + ran.count("MatMulIntegerToFloat") == 37
    assert ran.count("MatMul") + ran.count("FusedMatMul") == 12


def test_onnx_runtime_runs_every_layer_of_static_int8_in_integers(tmp_path: Path) -> None:
    ran = fused(number_format("int8_static").convert(scene_vision(), scene_feeds(), "onnxruntime"), tmp_path)
    assert ran.count("MatMulIntegerToFloat") == 37
    assert ran.count("MatMul") + ran.count("FusedMatMul") == 12


def test_a_convolution_runs_in_integers_with_static_int8_and_is_refused_with_dynamic(tmp_path: Path) -> None:
    kernel = weight(4 * 8, 9).reshape(4, 8, 3, 3)
    shape = np.asarray([0, 8, 4, 2])
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Conv", ["r", "kernel", "bias"], ["y"], pads=[1, 1, 1, 1]),
    ]
    graph = product(*nodes, shape=shape, kernel=kernel, bias=np.ones(4, np.float32))
    converted = convert("int8_static", graph)
    assert "QLinearConv" in fused(converted, tmp_path)
    assert cosine(run(converted, FEEDS[0])["y"], run(graph, FEEDS[0])["y"]) > 0.999
    assert "Conv is quantized with int8_static only" in number_format("int8_dynamic").refuses(graph, "onnxruntime")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", ["int8_dynamic", "int8_static", "int8_weights", "int8_nncf"])
def test_a_gemm_is_quantized_whichever_way_its_weight_lies(name: str, transposed: bool) -> None:
    w = weight(64, 32).T if transposed else weight(64, 32)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=int(transposed), alpha=2.0, beta=0.5)
    graph = product(node, w=np.ascontiguousarray(w), b=np.ones(32, np.float32))
    converted = convert(name, graph, number_format(name).targets[0])
    assert not any(a.dtype == np.float32 and a.size == w.size for a in arrays(converted).values())
    assert cosine(run(converted, FEEDS[0])["y"], run(graph, FEEDS[0])["y"]) > 0.999


@pytest.mark.parametrize("name", ["int8_dynamic", "int8_static"])
def test_reduce_range_takes_a_bit_from_the_weights(name: str) -> None:
    full, reduced = (
        max(
            np.abs(a.astype(int)).max()
            for a in arrays(convert(name, product(), reduce_range=reduce)).values()
            if a.dtype == np.int8
        )
        for reduce in (False, True)
    )
    assert (full, reduced) == (127, 64)


@pytest.mark.parametrize("name", ["int8_dynamic", "int8_static"])
@pytest.mark.parametrize(
    ("device", "reduced"), [("x86_64", True), ("x86_64_avx2", True), ("x86_64_avx512_vnni", False), ("arm64", False)]
)
def test_weights_lose_a_bit_on_devices_whose_int8_products_saturate(name: str, device: str, reduced: bool) -> None:
    assert for_device(number_format(name), lookup.find("device", device)).reduce_range is reduced


def test_formats_without_int8_activations_are_the_same_on_every_device() -> None:
    chosen = number_format("int8_weights")
    assert for_device(chosen, lookup.find("device", "x86_64")) is chosen


@pytest.mark.parametrize("name", ["int8_dynamic", "int8_static", "int8_nncf"])
def test_smoothing_saves_the_layer_that_reads_an_outlier_channel(name: str) -> None:
    graph, target = lopsided(loud=1 / 300), number_format(name).targets[0]
    least = []
    for smooth in (0.0, 0.5):
        converted = convert(name, graph, target, smooth=smooth)
        least.append(min(cosine(run(converted, f, target)["y"], run(graph, f)["y"]) for f in FEEDS[:4]))
    assert least[0] < 0.9
    assert least[1] > 0.99


@pytest.mark.parametrize("name", ["int8_dynamic", "int8_static", "int8_nncf"])
def test_smooth_outside_0_to_1_is_refused(name: str) -> None:
    chosen = replace(number_format(name), smooth=1.5)
    assert chosen.refuses(lopsided(), chosen.targets[0]) == "smooth is 1.5, expected 0 to 1"


@pytest.mark.parametrize("name", ["int8_dynamic", "int8_static"])
def test_smooth_is_refused_where_no_normalisation_can_take_it(name: str) -> None:
    reason = replace(number_format(name), smooth=0.5).refuses(product(), "onnxruntime")
    assert reason is not None
    assert "leave smooth at 0" in reason


def test_dynamic_int8_needs_feeds_only_to_smooth() -> None:
    chosen = number_format("int8_dynamic")
    assert not chosen.needs_calibration
    assert replace(chosen, smooth=0.5).needs_calibration
    with pytest.raises(InputError, match="no calibration samples"):
        replace(chosen, smooth=0.5).convert(lopsided(), (), "onnxruntime")


def activation_scale(**options: Any) -> float:
    """Return the step of x, whose values are those of a normal distribution but for one of 100."""
    feeds = row_feeds()
    feeds[3]["x"][0, 0] = 100
    chosen = replace(number_format("int8_static"), **options)
    found = arrays(chosen.convert(product(), feeds, "onnxruntime"))
    return float(found["x_scale"])


def test_ranges_and_percentile_decide_what_becomes_of_outliers() -> None:
    steps = [
        activation_scale(),
        activation_scale(ranges="percentile", percentile=99.9),
        activation_scale(ranges="percentile", percentile=90.0),
        activation_scale(ranges="entropy"),
    ]
    assert steps[0] == pytest.approx((100 + 4) / 255, rel=0.02)
    assert steps[0] > 5 * steps[1] > 5 * steps[2]
    assert steps[0] > 5 * steps[3]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ranges": "maximum"}, "ranges is 'maximum', expected one of minmax, percentile, entropy"),
        ({"percentile": 99.9}, "ranges is 'minmax' and percentile 99.9"),
        ({"ranges": "percentile"}, "ranges is 'percentile' and percentile None"),
        ({"ranges": "percentile", "percentile": 40.0}, "percentile is 40.0, expected above 50"),
    ],
)
def test_options_of_static_int8_that_do_not_fit_together_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        convert("int8_static", product(), **options)


def test_a_tensor_that_never_changes_has_a_range_all_the_same() -> None:
    nodes = [helper.make_node("Mul", ["x", "zero"], ["z"]), helper.make_node("MatMul", ["z", "w"], ["y"])]
    graph = product(*nodes, zero=np.zeros(1, np.float32), w=weight(64, 32))
    for ranges in ("minmax", "entropy"):
        assert not run(convert("int8_static", graph, ranges=ranges), FEEDS[0])["y"].any()


def test_nncf_gives_activations_no_zero_point_when_symmetric() -> None:
    usual, symmetric = (arrays(convert("int8_nncf", lopsided(), "openvino", symmetric=s)) for s in (False, True))
    assert any(a.any() for name, a in usual.items() if "zero_point" in name)
    assert not any(a.any() for name, a in symmetric.items() if "zero_point" in name)


IDENTITY = {"x": np.eye(64, dtype=np.float32)}
"""A product with it gives a weight as the engine sees it."""


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["int8_weights", "int4_weights"])
def test_weights_are_rounded_to_the_nearest_step_of_their_group(name: str, target: str) -> None:
    w = weight(64, 32)
    seen = run(convert(name, product(), target), IDENTITY, target)["y"]
    groups = w.reshape(-1, 64 if (name, target) == ("int8_weights", "openvino") else 32, 32)
    low, high = np.minimum(groups.min(1), 0), np.maximum(groups.max(1), 0)
    step = (high - low) / (2 ** number_format(name).bits - 1)
    # Half a step for the weight and half for the zero point, which is a whole number of steps.
    assert (np.abs(seen - w).reshape(groups.shape) <= 1.001 * step[:, None]).all()


@pytest.mark.parametrize(("name", "target"), [("int8_weights", "onnxruntime"), ("int4_weights", "openvino")])
def test_smaller_groups_are_larger_and_nearer(name: str, target: str) -> None:
    w = weight(64, 32)
    fine, coarse = (convert(name, product(), target, group=group) for group in (16, 64))
    errors = [np.abs(run(graph, IDENTITY, target)["y"] - w).mean() for graph in (fine, coarse)]
    assert errors[0] < errors[1]
    assert sum(a.nbytes for a in arrays(fine).values()) > sum(a.nbytes for a in arrays(coarse).values())


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["int8_weights", "int4_weights"])
def test_symmetric_groups_have_no_zero_points_to_store(name: str, target: str) -> None:
    usual, symmetric = (convert(name, product(), target, symmetric=s) for s in (False, True))
    assert sum(len(t.raw_data) for t in tensors(symmetric)) < sum(len(t.raw_data) for t in tensors(usual))


def tensors(graph: bytes) -> list[onnx.TensorProto]:
    return list(onnx.load_from_string(graph).graph.initializer)


def test_int8_activations_round_what_the_weights_are_multiplied_with() -> None:
    graph = product()
    exact, rounded = (run(convert("int4_weights", graph, int8_activations=i), FEEDS[0])["y"] for i in (False, True))
    assert 1e-4 < np.abs(exact - rounded).max() < 0.1


@pytest.mark.parametrize(
    ("name", "target", "options", "reason"),
    [
        ("int4_weights", "onnxruntime", {"group": 24}, "group is 24, expected a power of two from 16"),
        ("int4_weights", "onnxruntime", {"group": 8}, "group is 8, expected a power of two from 16"),
        ("int8_weights", "openvino", {"group": 64}, "openvino takes whole columns only"),
        ("int8_weights", "openvino", {"int8_activations": True}, "openvino would ignore it"),
    ],
)
def test_weight_only_options_that_cannot_be_followed_are_refused(
    name: str, target: str, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RecipeError, match=reason):
        convert(name, product(), target, **options)


def test_4_bit_blocks_need_an_operator_set_next_to_theirs() -> None:
    with pytest.raises(RecipeError, match="operator set 17, blocks need 20 or later"):
        convert("int4_weights", with_opset(product(), 17), "openvino")
    assert "MatMulNBits" in operators(convert("int4_weights", with_opset(product(), 17)))


def test_a_convolution_has_no_weight_only_kernel() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Conv", ["r", "kernel"], ["y"]),
    ]
    graph = product(*nodes, shape=np.asarray([0, 8, 8]), kernel=weight(32, 3).reshape(4, 8, 3))
    assert "a Conv has no weight-only kernel" in number_format("int8_weights").refuses(graph, "onnxruntime")


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_16_bit_floats_are_refused_where_a_processor_would_cast_back(target: str) -> None:
    for name in ("float16", "bfloat16"):
        assert "on a processor" in number_format(name).refuses(product(), target)


def test_weights_beyond_float16_are_refused_and_fit_bfloat16() -> None:
    graph = product(w=weight(64, 32) * np.float32(1e6))
    with pytest.raises(RecipeError, match=r"beyond the largest number 6.55e\+04 of float16; exclude that layer"):
        convert("float16", graph, "tensorrt")
    assert convert("bfloat16", graph, "tensorrt")


def test_activations_that_several_layers_read_are_cast_once() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["x", "v"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    graph = product(*nodes, w=weight(64, 32), v=weight(64, 32, seed=1))
    assert operators(convert("float16", graph, "tensorrt")).count("Cast") == 3


@pytest.mark.parametrize("name", ["int8_dynamic", "int8_static", "int8_nncf", "int4_weights"])
def test_libraries_stay_quiet_and_loggers_as_they_were(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = [logging.getLogger(logger).level for logger in ("", "nncf", "onnxruntime.quantization")]
    for target in number_format(name).targets:
        convert(name, lopsided(), target)
    assert capfd.readouterr() == ("", "")
    assert [logging.getLogger(logger).level for logger in ("", "nncf", "onnxruntime.quantization")] == before


def test_errors_come_out_of_the_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    def speak() -> None:
        with quiet():
            print("nothing to see")
            raise ValueError("loud")

    with pytest.raises(ValueError, match="loud"):
        speak()
    assert capsys.readouterr().out == ""


def test_nncf_reports_to_nobody() -> None:
    code = (
        "import os; from sanderling.compile.nncf_library import load_nncf; load_nncf();"
        "from nncf.telemetry.wrapper import telemetry; print(type(telemetry).__name__, os.environ.get('NNCF_CI'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["MagicMock", "None"]


def test_nncf_s_absence_is_a_refusal_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sanderling.compile.nncf_library.util.find_spec", lambda name: None)
    for name in ("int8_nncf", "int8_weights", "int4_weights"):
        reason = number_format(name).refuses(product(), "openvino")
        assert f"{name}" in reason
        assert "pip install 'sanderling[compile]'" in reason
    assert number_format("int8_weights").refuses(product(), "onnxruntime") is None
