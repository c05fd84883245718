"""What every number format must do; a new file in compile/formats/ is tested here the day it lands."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from format_graphs import (
    ALL,
    LEVER,
    Feed,
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
from sanderling.engine import AnyArray, OpenOptions, opener
from sanderling.errors import RecipeError

NAMES = lookup.names("format")
LOSSY = [name for name in NAMES if number_format(name).lossy]
PAIRS = [(n, t) for n in LOSSY for t in number_format(n).targets if opener(t).missing() is None]
"""What can be opened here; a format of a target that is not installed is only converted."""

SMALLEST_COSINE = {"int4_weights": 0.999}
"""Of image tokens at full count against float32; 0.9999 unless stated. 16 steps per 32 weights lose that much."""

MOST_OF_FLOAT32 = {"int4_weights": 0.2, "float16": 0.51, "bfloat16": 0.51}
"""Bytes of the converted scene encoder, as a share of float32; 0.32 unless stated."""


@cache
def converted_scene(name: str, target: str) -> bytes:
    """Return the scene encoder in a format."""
    converted: bytes = number_format(name).convert(scene_vision(), scene_feeds(), target)
    return converted


def first_target(name: str) -> str:
    """Return the first target to convert for."""
    target: str = number_format(name).targets[0]
    return target


@pytest.mark.parametrize("name", NAMES)
def test_is_a_frozen_dataclass_named_after_its_file_with_documented_options(name: str) -> None:
    chosen = number_format(name)
    assert chosen.name == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        chosen.name = "surprise"
    text = inspect.getdoc(type(chosen)) or ""
    fixed = {"name", "targets", "lossy", "needs_calibration"}
    assert all(f"{field.name}:" in text for field in dataclasses.fields(chosen) if field.name not in fixed)
    assert inspect.getdoc(inspect.getmodule(type(chosen)))


@pytest.mark.parametrize(("name", "target"), PAIRS, ids=str)
def test_opens_on_its_targets_and_computes_nearly_the_same_at_every_token_count(name: str, target: str) -> None:
    graph = scene_vision()
    converted = converted_scene(name, target)
    assert len(converted) < MOST_OF_FLOAT32.get(name, 0.32) * len(graph)
    lowered = lookup.find("target", target).lower(converted)
    engine = opener(target).open(lowered, OpenOptions(threads=1))
    source = opener("onnxruntime").open(graph, OpenOptions(threads=1))
    for feed in scene_feeds(range(20, 22)):
        got, wanted = engine.run(feed), source.run(feed)
        count = int(feed[LEVER])
        assert [(k, v.dtype, v.shape) for k, v in got.items()] == [(k, v.dtype, v.shape) for k, v in wanted.items()]
        kept, cos = agreement(got, wanted)
        # A token near the cut may be exchanged for its neighbour, and then all others attend to another one.
        assert kept >= (1.0 if count == ALL else 0.75)
        assert cos >= (SMALLEST_COSINE.get(name, 0.9998) if count == ALL else 0.95)


def agreement(got: Feed, wanted: Feed) -> tuple[float, float]:
    """Return the share of tokens that both keep, and the cosine of these."""
    mine, theirs = got["image_kept"][0], wanted["image_kept"][0]
    both = np.intersect1d(mine, theirs)
    rows: list[AnyArray] = [
        outputs["image_tokens"][0][np.searchsorted(outputs["image_kept"][0], both)] for outputs in (got, wanted)
    ]
    return len(both) / len(theirs), cosine(rows[0], rows[1])


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_formats_without_an_engine_here_compute_nearly_the_same_in_onnx_s_own_evaluator(name: str) -> None:
    graph = lopsided()
    converted = number_format(name).convert(graph, (), "tensorrt")
    assert operators(converted).count("MatMul") == 2
    feed = row_feeds(1)[0]
    smallest = {"float16": 0.999999, "bfloat16": 0.9999}[name]
    assert cosine(run(converted, feed, "reference")["y"], run(graph, feed)["y"]) >= smallest


@pytest.mark.parametrize("name", NAMES)
def test_keeps_names_and_types_of_inputs_and_outputs_in_order(name: str) -> None:
    graph = scene_vision()
    converted = converted_scene(name, first_target(name))
    before, after = (onnx.load_from_string(data).graph for data in (graph, converted))
    for kind in ("input", "output"):
        assert [(v.name, v.type) for v in getattr(after, kind)] == [(v.name, v.type) for v in getattr(before, kind)]
    assert after.name == before.name


_DIGESTS = """
import hashlib, pickle, sys
from sanderling import lookup
graph, feeds = pickle.load(open(sys.argv[1], "rb"))
for name in lookup.names("format"):
    chosen = lookup.find("format", name)
    for target in chosen.targets:
        print(name, target, hashlib.sha256(chosen.convert(graph, feeds, target)).hexdigest())
"""


def test_the_same_graph_and_feeds_give_the_same_bytes_here_and_in_another_process(tmp_path: Path) -> None:
    graph, feeds = lopsided(), row_feeds()
    (tmp_path / "given").write_bytes(pickle.dumps((graph, feeds)))
    # Another seed of hashes walks through sets in another order.
    ran = subprocess.run(
        [sys.executable, "-c", _DIGESTS, str(tmp_path / "given")],
        env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    here = [
        f"{name} {target} {hashlib.sha256(number_format(name).convert(graph, feeds, target)).hexdigest()}"
        for name in NAMES
        for target in number_format(name).targets
    ]
    assert ran.stdout.splitlines() == here
    assert ran.stderr == ""


def refused(name: str, graph: bytes, target: str, **options: object) -> str:
    """Return the reason, which converting gives as well."""
    chosen = dataclasses.replace(number_format(name), **options)
    reason = chosen.refuses(graph, target)
    assert reason is not None
    with pytest.raises(RecipeError) as caught:
        chosen.convert(graph, row_feeds(), target)
    assert str(caught.value) == f"format {name!r} on {target}: {reason}"
    return str(reason)


@pytest.mark.parametrize("name", LOSSY)
def test_refuses_a_graph_without_weights_to_convert(name: str) -> None:
    nodes = [helper.make_node("MatMul", ["x", "t"], ["y"]), helper.make_node("Transpose", ["x"], ["t"])][::-1]
    assert "nothing to convert: no MatMul, Gemm or Conv" in refused(
        name, product(*nodes, unused=weight(2, 2)), first_target(name)
    )


@pytest.mark.parametrize("name", LOSSY)
def test_refuses_a_graph_that_is_quantized_already(name: str) -> None:
    once = number_format("int8_dynamic").convert(product(), (), "onnxruntime")
    assert "quantized already" in refused(name, once, first_target(name))


@pytest.mark.parametrize("name", LOSSY)
def test_refuses_operator_sets_it_cannot_be_written_in(name: str) -> None:
    assert "operator set 11" in refused(name, with_opset(product(), 11), first_target(name))


@pytest.mark.parametrize("name", NAMES)
def test_refuses_targets_it_is_not_for(name: str) -> None:
    assert "toaster" in refused(name, product(), "toaster")


@pytest.mark.parametrize("name", LOSSY)
def test_refuses_a_pattern_that_matches_nothing_or_everything(name: str) -> None:
    target = first_target(name)
    reason = refused(name, lopsided(), target, exclude=("loud*", "layers.7.*"))
    assert "'layers.7.*' matches no layer; layers are loud, plain" in reason
    assert "leaves no layer" in refused(name, lopsided(), target, exclude=("loud", "plain.weight"))


@pytest.mark.parametrize("pattern", ["plain", "plain.w*", "plain.bias"])
@pytest.mark.parametrize("name", LOSSY)
def test_leaves_excluded_layers_as_they_were(name: str, pattern: str) -> None:
    # NNCF smooths the layers that it is told to leave alone as well, which changes nothing in float32.
    plain = {"smooth": 0.0} if name == "int8_nncf" else {}
    chosen = dataclasses.replace(number_format(name), exclude=(pattern,), **plain)
    converted = chosen.convert(lopsided(), row_feeds(), first_target(name))
    source = {t.name: t for t in onnx.load_from_string(lopsided()).graph.initializer}
    found = {t.name: t for t in onnx.load_from_string(converted).graph.initializer}
    assert found["plain.weight"] == source["plain.weight"]
    assert "loud.weight" not in found
