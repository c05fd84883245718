"""The target tensorrt, as far as it goes without a GPU: build plans, the engine cache, and its calls on a stand-in."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import onnx
import pytest
from onnx import parser

from sanderling.engine import Build, OpenOptions, Span
from sanderling.errors import InputError, MissingExtraError, UnsupportedError, UserError
from sanderling.targets import tensorrt
from sanderling.targets.nvidia import driver
from sanderling.targets.nvidia.builder import InputFact, Steps, gaps, steps
from sanderling.targets.nvidia.engine_cache import EngineCache, differences

HERE = {"compute capability": "8.7", "driver": "12.6", "TensorRT": "10.3.0", "power mode": "2"}
X, KEEP = InputFact("x", (-1, 8), False), InputFact("keep", (), True)
BUILD = Build(shapes={"x": Span((1, 8), (2, 8), (4, 8))}, values={"keep": Span((1,), (4,), (8,))})


def graph(doc: str = "") -> bytes:
    """The `keep` highest of each row of x [batch, 8], and their places."""
    read = parser.parse_model(
        '<ir_version: 9, opset_import: ["": 20]> g (float[n, 8] x, int64 keep) => (float[n, k] v, int64[n, k] i) '
        "<int64[1] one = {1}> { k1 = Reshape (keep, one)  v, i = TopK (x, k1) }"
    )
    read.doc_string = doc
    data: bytes = read.SerializeToString(deterministic=True)
    return data


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorRT's stand-in in place, with host memory for a GPU's."""
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)
    monkeypatch.setattr(tensorrt, "Driver", fake_tensorrt.HostMemory)
    fake_tensorrt.built.clear()
    return fake_tensorrt


def options(folder: Path, build: Build = BUILD) -> OpenOptions:
    return OpenOptions(processor="CUDA", build=build, cache=str(folder))


@pytest.mark.parametrize(
    ("build", "version", "quantized", "expected"),
    [
        (Build(), (10, 3), False, Steps((), ("TF32",), 1024 << 20, 3, None)),
        (Build(precision="float16"), (10, 3), False, Steps(("FP16",), ("TF32",), 1024 << 20, 3, None)),
        (Build(), (10, 13), True, Steps(("INT8",), ("TF32",), 1024 << 20, 3, None)),
        (Build(), (11, 4), True, Steps((), ("TF32",), 1024 << 20, 3, None)),
        (Build(workspace_mb=64, effort=5, dla_core=1), (10, 3), False, Steps((), ("TF32",), 64 << 20, 5, 1)),
    ],
    ids=["float32", "float16", "quantized", "TensorRT 11", "workspace, effort, accelerator"],
)
def test_a_build_in_tensorrts_words(build: Build, version: tuple[int, int], quantized: bool, expected: Steps) -> None:
    assert steps(build, version, quantized) == expected


def test_float16_is_refused_where_the_graph_decides() -> None:
    with pytest.raises(UnsupportedError, match=r"TensorRT 11\.4 takes the precision from the graph"):
        steps(Build(precision="float16"), (11, 4), False)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (BUILD, ()),
        (replace(BUILD, shapes={}), ("input 'x' has no range for axis 0",)),
        (replace(BUILD, values={}), ("input 'keep' decides shapes and has no range of values",)),
        (replace(BUILD, shapes={"x": Span((1,), (1,), (1,))}), ("input 'x' has 2 axes, and its range 1",)),
        (
            replace(BUILD, shapes={"x": Span((1, 4), (1, 8), (4, 8))}),
            ("axis 1 of input 'x' is always 8; its range says otherwise",),
        ),
        (
            replace(BUILD, values={**BUILD.values, "x": Span((1,), (1,), (1,))}),
            ("input 'x' decides no shapes, so a range of values changes nothing; leave it out",),
        ),
        (
            replace(BUILD, values={**BUILD.values, "kepe": Span((1,), (1,), (1,))}),
            ("input 'kepe' is not in the graph; it has x, keep",),
        ),
    ],
    ids=["complete", "no shape", "no value", "rank", "fixed axis", "no shape tensor", "stranger"],
)
def test_what_a_profile_leaves_open(build: Build, said: tuple[str, ...]) -> None:
    assert gaps([X, KEEP], build) == said


def test_a_profile_must_cover_every_rung() -> None:
    assert gaps([X, KEEP], BUILD, [{"keep": 1}, {"keep": 8}]) == ()
    assert gaps([X, KEEP], BUILD, [{"keep": 8}, {"keep": 9}]) == ("keep=9 is outside 1 to 8",)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Span((1, 2), (1,), (1, 2)),
        lambda: Span((2,), (1,), (3,)),
        lambda: Span((-1,), (1,), (3,)),
        lambda: Build(precision="float8"),  # type: ignore[arg-type]
        lambda: Build(workspace_mb=0),
        lambda: Build(effort=6),
    ],
)
def test_a_build_that_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        make()


def test_a_kept_engine_comes_back_only_to_the_hardware_it_was_built_for(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "new")
    assert cache.find(b"graph", BUILD, HERE).engine is None
    assert cache.find(b"graph", BUILD, HERE).reason == ""
    cache.keep(b"graph", BUILD, HERE, b"engine", 41.0)
    assert cache.find(b"graph", BUILD, HERE).engine == b"engine"
    for name, value in HERE.items():
        found = cache.find(b"graph", BUILD, {**HERE, name: "other"})
        assert found.engine is None
        assert found.reason == f"it was built for {name} {value}, and this is other"
        assert found.build_s == 41.0


def test_another_graph_or_another_build_is_another_entry(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    builds = [BUILD, Build(), Build(effort=4), Build(precision="float16"), Build(workspace_mb=1), Build(dla_core=0)]
    assert len({cache.path(b"graph", build) for build in builds} | {cache.path(b"other", BUILD)}) == 7
    assert cache.path(b"graph", BUILD) == cache.path(b"graph", replace(BUILD))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda whole: whole[:-3], "is cut short: 3 of 6 bytes"),
        (lambda whole: whole[:20], "is no whole entry"),
        (lambda whole: whole[:4], "is no whole entry"),
        (lambda whole: b"", "is no whole entry"),
        (lambda whole: b"X" + whole[1:], "is no whole entry"),
        (lambda whole: whole[:8] + b"\xff" * 8 + whole[16:], "is no whole entry"),
        (lambda whole: whole[:16] + b"[" + whole[17:], "is no whole entry"),
        (lambda whole: whole[:-1] + b"X", "its digest does not fit"),
    ],
    ids=["engine", "header", "magic", "empty", "another file", "length that lies", "no JSON", "a flipped byte"],
)
def test_a_damaged_entry_is_named_and_never_used(tmp_path: Path, spoil: Any, reason: str) -> None:
    cache = EngineCache(tmp_path)
    path = cache.keep(b"graph", BUILD, HERE, b"engine", 1.0)
    path.write_bytes(spoil(path.read_bytes()))
    found = cache.find(b"graph", BUILD, HERE)
    assert found.engine is None
    assert reason in found.reason
    assert str(path) in found.reason


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SANDERLING_CACHE", str(tmp_path))
    assert EngineCache().folder == tmp_path / "engines"
    (tmp_path / "engines").write_text("in the way")
    with pytest.raises(UserError, match="cannot be made"):
        EngineCache().keep(b"graph", BUILD, HERE, b"engine", 1.0)


def test_differences_are_told_in_words() -> None:
    assert differences(HERE, HERE) == ""
    assert differences({"driver": "12.4"}, {"driver": "12.6", "power mode": "2"}) == (
        "driver 12.4, and this is 12.6; power mode unknown, and this is 2"
    )


def test_it_builds_once_runs_at_any_length_and_keeps_earlier_answers(module: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    engine = tensorrt.TARGET.open(graph(), options(tmp_path))
    feeds = [(rng.standard_normal((n, 8)).astype(np.float32), np.array(k)) for n, k in ((1, 3), (4, 8), (2, 1), (1, 3))]
    answers = [engine.run({"x": np.asfortranarray(x), "keep": keep}) for x, keep in feeds]
    for (x, keep), answer in zip(feeds, answers, strict=True):
        np.testing.assert_array_equal(answer["v"], -np.sort(-x, axis=-1)[:, :keep])
        np.testing.assert_array_equal(answer["i"], np.argsort(-x, axis=-1)[:, :keep])
    tensorrt.TARGET.open(graph(), options(tmp_path))
    assert len(module.built) == 1


def test_the_builder_is_told_everything(module: Any, tmp_path: Path) -> None:
    build = replace(BUILD, precision="float16", workspace_mb=5, effort=2, dla_core=1)
    tensorrt.TARGET.open(graph(), options(tmp_path, build))
    (config,) = module.built
    assert config.flags == {"FP16"}
    assert config.pools == {"WORKSPACE": 5 << 20}
    assert (config.builder_optimization_level, config.default_device_type, config.DLA_core) == (2, "DLA", 1)
    assert config.profiles[0].shapes == {"x": ((1, 8), (2, 8), (4, 8))}
    assert config.profiles[0].values == {"keep": ((1,), (4,), (8,))}


def cut_short(cache: EngineCache) -> None:
    path = cache.path(graph(), BUILD)
    path.write_bytes(path.read_bytes()[:-9])


def of_another_driver(cache: EngineCache) -> None:
    cache.keep(graph(), BUILD, {**HERE, "driver": "11"}, b"engine", 41.0)


def unreadable(cache: EngineCache) -> None:
    here = tensorrt.hardware_here(fake_tensorrt, fake_tensorrt.HostMemory())  # type: ignore[arg-type]
    cache.keep(graph(), BUILD, here, b"another TensorRT's", 41.0)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(cut_short, "is cut short"), (of_another_driver, "driver 11, and"), (unreadable, "TensorRT cannot read it")],
)
def test_a_stale_engine_is_told_with_its_reason_and_built_again(
    module: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Any, reason: str
) -> None:
    tensorrt.TARGET.open(graph(), options(tmp_path))
    cache = EngineCache(tmp_path)
    spoil(cache)
    with caplog.at_level(logging.WARNING):
        tensorrt.TARGET.open(graph(), options(tmp_path))
    assert reason in caplog.text
    assert "the last build took" in caplog.text
    assert len(module.built) == 2
    tensorrt.TARGET.open(graph(), options(tmp_path))
    assert len(module.built) == 2


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"x": np.zeros((5, 8), np.float32)}, r"shape \[5, 8\]; it was built for \(1, 8\) to \(4, 8\)"),
        ({"x": np.zeros((1, 8), np.float64)}, "is float64, expected float32"),
        ({"keep": np.array(9)}, r"'keep' is 9; it was built for \(1,\) to \(8,\)"),
        ({"keep": np.array(0)}, r"'keep' is 0; it was built for"),
    ],
)
def test_inputs_outside_the_profile_are_refused_with_both_numbers(
    module: Any, tmp_path: Path, changed: dict[str, Any], match: str
) -> None:
    engine = tensorrt.TARGET.open(graph(), options(tmp_path))
    feed = {"x": np.zeros((1, 8), np.float32), "keep": np.array(2), **changed}
    with pytest.raises(InputError, match=match):
        engine.run(feed)
    with pytest.raises(InputError, match="'keep' is missing; the engine takes x, keep"):
        engine.run({"x": np.zeros((1, 8), np.float32)})


@pytest.mark.parametrize("doc", ["unknown", "cannot start"])
def test_a_run_that_fails_is_an_error(module: Any, tmp_path: Path, doc: str) -> None:
    engine = tensorrt.TARGET.open(graph(doc), options(tmp_path))
    with pytest.raises(UnsupportedError, match=r"known only when it is computed|could not start"):
        engine.run({"x": np.zeros((1, 8), np.float32), "keep": np.array(2)})


def test_what_it_cannot_open_is_refused(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="no processor 'CPU' here; it has: CUDA"):
        tensorrt.TARGET.open(graph(), OpenOptions())
    with pytest.raises(UnsupportedError, match="profile is not complete: input 'x' has no range for axis 0"):
        tensorrt.TARGET.open(graph(), options(tmp_path, replace(BUILD, shapes={})))
    with pytest.raises(UnsupportedError, match="cannot build this graph"):
        tensorrt.TARGET.open(graph("cannot build"), options(tmp_path))
    strange = onnx.load_from_string(graph())
    strange.graph.node[0].domain = "my.ops"
    with pytest.raises(UnsupportedError, match="cannot read this graph: no importer for this node"):
        tensorrt.TARGET.open(strange.SerializeToString(), options(tmp_path))
    monkeypatch.setattr(module, "__version__", "8.6.1")
    with pytest.raises(UnsupportedError, match=r"TensorRT 8\.6\.1 is older than 10\.0"):
        tensorrt.TARGET.open(graph(), options(tmp_path))


def test_without_a_driver_it_says_so(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LIBRARY", "libcuda.so.nowhere")
    missing = tensorrt.TARGET.missing()
    assert missing is not None
    assert "no NVIDIA driver here (libcuda.so.nowhere" in missing


def test_bindings_without_libraries_are_told_from_no_bindings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(MissingExtraError, match=r"TensorRT's libraries \(libnvinfer.so.10: cannot open"):
        tensorrt.TARGET.open(graph(), OpenOptions(processor="CUDA"))


def test_a_reduction_that_is_the_default_is_left_out_and_nothing_else_changes() -> None:
    text = (
        '<ir_version: 9, opset_import: ["": 20]> g (float[4, 3] x, float[2, 3] u) => (float[4, 3] y) '
        "<int64[2, 1] i = {0, 2}> { y = ScatterND %s (x, i, u) }"
    )
    plain = parser.parse_model(text % "").SerializeToString(deterministic=True)
    written = parser.parse_model(text % '<reduction = "none">').SerializeToString(deterministic=True)
    adding = parser.parse_model(text % '<reduction = "add">').SerializeToString(deterministic=True)
    assert tensorrt.TARGET.lower(written) == plain
    assert tensorrt.TARGET.lower(plain) == plain
    assert tensorrt.TARGET.lower(adding) == adding
