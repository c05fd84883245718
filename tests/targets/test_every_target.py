"""What every engine must do, whichever it is; a new file in targets/ is tested here the day it lands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from sanderling import lookup
from sanderling.device import Device
from sanderling.engine import AnyArray, Build, OpenOptions, Span
from sanderling.errors import MissingExtraError, UnsupportedError
from sanderling.targets import Target

NAMES = lookup.names("target")
LIBRARY = {"reference": "onnx.reference"}
"""What a target imports, where that is not its own name."""

ROWS = Build(shapes={"x": Span((1, 3), (4, 3), (8, 3))})
VECTOR = Build(shapes={"x": Span((1,), (3,), (8,))})
SELECTING = Build(
    shapes={"rows": Span((2, 7, 3), (2, 7, 3), (2, 12, 3)), "scores": Span((2, 7), (2, 7), (2, 12))},
    values={"keep": Span((1,), (3,), (12,))},
)
"""For engines that are built before they run; the others read none of it."""

WEIGHT = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)


def find(name: str) -> Target:
    target: Target = lookup.find("target", name)
    return target


def here(name: str) -> Target:
    """Return a target that can open graphs on this machine; the test is skipped with its reason when it cannot."""
    reason = find(name).missing()
    if reason is not None:
        pytest.skip(reason)
    return find(name)


def needed() -> set[str]:
    """Return the targets that every development machine has: the reference, and those of processor cores."""
    devices: list[Device] = [lookup.find("device", name) for name in lookup.names("device")]
    return {"reference"} | {target for device in devices if device.processor == "CPU" for target in device.targets}


def options(name: str, build: Build) -> OpenOptions:
    return OpenOptions(threads=1, processor=find(name).processor, build=build)


def serialised(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    *initializers: TensorProto,
) -> bytes:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("nobody.knows", 1)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return data


def floats(name: str, *shape: int | str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def longs(name: str, *shape: int | str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, list(shape))


def selecting() -> bytes:
    """Keeps the `keep` highest-scoring rows of [batch, n, 3], in order of score, times a matrix."""
    return serialised(
        [
            helper.make_node("Reshape", ["keep", "one"], ["keep_1d"]),
            helper.make_node("TopK", ["scores", "keep_1d"], ["best", "places"], axis=-1),
            helper.make_node("Unsqueeze", ["places", "last"], ["places_3d"]),
            helper.make_node("Expand", ["places_3d", "width"], ["index"]),
            helper.make_node("GatherElements", ["rows", "index"], ["kept"], axis=1),
            helper.make_node("MatMul", ["kept", "weight"], ["out"]),
        ],
        [floats("rows", "batch", "n", 3), floats("scores", "batch", "n"), longs("keep")],
        [floats("out", "batch", "k", 2), longs("places", "batch", "k")],
        numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
        numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"),
        numpy_helper.from_array(np.array([1, 1, 3], dtype=np.int64), "width"),
        numpy_helper.from_array(WEIGHT, "weight"),
    )


def matmul() -> bytes:
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")]
    return serialised(nodes, [floats("x", "n", 3)], [floats("y", "n", 2)], numpy_helper.from_array(WEIGHT, "weight"))


def frobnicating() -> bytes:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="fine"),
        helper.make_node("Frobnicate", ["a"], ["b"], name="layer3/frob", domain="nobody.knows"),
        helper.make_node("Frobnicate", ["b"], ["y"], name="layer4/frob", domain="nobody.knows"),
    ]
    return serialised(nodes, [floats("x", 2, 2)], [floats("y", 2, 2)])


def two_numbers_of_tokens() -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
    rng = np.random.default_rng(1)
    return tuple(  # type: ignore[return-value]
        {
            "rows": rng.standard_normal((2, n, 3)).astype(np.float32),
            "scores": rng.standard_normal((2, n)).astype(np.float32),
            "keep": np.array(keep, dtype=np.int64),
        }
        for n, keep in ((7, 3), (12, 12))
    )


def selected(rows: AnyArray, scores: AnyArray, keep: AnyArray) -> dict[str, AnyArray]:
    places = np.argsort(-scores, axis=-1, kind="stable")[:, : int(keep)]
    return {"out": np.take_along_axis(rows, places[..., None], axis=1) @ WEIGHT, "places": places}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_named_after_its_file_and_is_installed_here_unless_it_needs_hardware(name: str) -> None:
    assert find(name).name == name
    if name in needed():
        assert find(name).missing() is None


@pytest.mark.parametrize("name", NAMES)
def test_it_computes_what_numpy_does_at_any_number_of_tokens_and_keeps_earlier_answers(name: str) -> None:
    engine = here(name).open(here(name).lower(selecting()), options(name, SELECTING))
    feeds = two_numbers_of_tokens()
    answers = [engine.run(feed) for feed in (*feeds, feeds[0])]
    for feed, answer in zip((*feeds, feeds[0]), answers, strict=True):
        expected = selected(**feed)
        assert list(answer) == ["out", "places"]
        np.testing.assert_array_equal(answer["places"], expected["places"])
        # Sums of three products of numbers near one, in float32.
        np.testing.assert_allclose(answer["out"], expected["out"], atol=1e-6)
        assert [answer[name].dtype.name for name in answer] == ["float32", "int64"]


@pytest.mark.parametrize("name", NAMES)
def test_of_equal_scores_the_earlier_places_are_kept(name: str) -> None:
    engine = here(name).open(find(name).lower(selecting()), OpenOptions(threads=1))
    rng = np.random.default_rng(3)
    for n in (7, 40):
        scores = rng.integers(0, 3, (4, n)).astype(np.float32)
        for keep in (1, 3, n - 1, n):
            feed = {"rows": rng.random((4, n, 3), np.float32), "scores": scores, "keep": np.array(keep)}
            np.testing.assert_array_equal(engine.run(feed)["places"], selected(**feed)["places"])


@pytest.mark.parametrize("name", NAMES)
def test_an_input_that_no_node_reads_is_taken(name: str) -> None:
    nodes = [helper.make_node("Add", ["x", "x"], ["twice"])]
    graph = serialised(nodes, [floats("x", "n"), floats("unread", "n")], [floats("twice", "n")])
    x = np.array([1, 2], dtype=np.float32)
    answer = here(name).open(find(name).lower(graph), OpenOptions(threads=1)).run({"x": x, "unread": x})
    assert answer["twice"].tolist() == [2, 4]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_callers_own(name: str) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["same"]), helper.make_node("Add", ["x", "x"], ["twice"])]
    nodes.append(helper.make_node("Identity", ["twice"], ["again"]))
    outputs = [floats("twice", "n"), floats("same", "n"), floats("again", "n")]
    engine = here(name).open(serialised(nodes, [floats("x", "n")], outputs), options(name, VECTOR))
    x = np.array([1, 2, 3], dtype=np.float32)
    first = engine.run({"x": x})
    x[:] = 7
    engine.run({"x": x})
    assert {key: value.tolist() for key, value in first.items()} == {
        "twice": [2, 4, 6],
        "same": [1, 2, 3],
        "again": [2, 4, 6],
    }
    first["twice"][:] = 0
    assert first["again"].tolist() == [2, 4, 6]


def read_only(x: AnyArray) -> AnyArray:
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "arrange",
    [
        pytest.param(np.asfortranarray, id="column-major"),
        pytest.param(lambda x: np.repeat(x, 2, axis=0)[::2], id="strided"),
        pytest.param(lambda x: x[::-1][::-1], id="view"),
        pytest.param(read_only, id="read-only"),
    ],
)
def test_inputs_may_lie_in_memory_as_they_like(name: str, arrange: Callable[[AnyArray], AnyArray]) -> None:
    x = np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)
    answer = here(name).open(matmul(), options(name, ROWS)).run({"x": arrange(x.copy())})
    np.testing.assert_allclose(answer["y"], x @ WEIGHT, atol=1e-6)  # sums of three products in float32


@pytest.mark.parametrize("name", NAMES)
def test_lowering_twice_is_lowering_once(name: str) -> None:
    lowered = find(name).lower(selecting())
    assert find(name).lower(lowered) == lowered


@pytest.mark.parametrize("name", NAMES)
def test_without_its_library_it_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, LIBRARY.get(name, name), None)
    missing = find(name).missing()
    assert missing is not None
    assert "pip install 'sanderling[" in missing
    with pytest.raises(MissingExtraError, match="pip install 'sanderling") as raised:
        find(name).open(matmul(), OpenOptions())
    assert str(raised.value) == missing


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("processor", ["GPU", "NPU", "AUTO", "cpu", "", "Abacus"])
def test_a_processor_that_is_not_here_is_refused(name: str, processor: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"no processor .* it has: .*{find(name).processor}"):
        here(name).open(matmul(), OpenOptions(processor=processor))


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_that_runs_is_not_refused(name: str) -> None:
    assert find(name).refusals(matmul()) == ()
    assert find(name).refusals(selecting()) == ()


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_operator_is_refused_at_every_node(name: str) -> None:
    refusals = find(name).refusals(frobnicating())
    assert [(refusal.operator, refusal.node) for refusal in refusals] == [
        ("Frobnicate", "layer3/frob"),
        ("Frobnicate", "layer4/frob"),
    ]
    assert all("nobody.knows" in refusal.reason for refusal in refusals)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_operator_inside_a_branch_is_refused(name: str) -> None:
    strange = helper.make_node("Frobnicate", ["x"], ["a"], name="inside", domain="nobody.knows")
    plain = helper.make_node("Identity", ["x"], ["b"])
    branches = [helper.make_graph([node], "branch", [], [floats(node.output[0], 2)]) for node in (strange, plain)]
    choose = helper.make_node("If", ["flag"], ["y"], name="if", then_branch=branches[0], else_branch=branches[1])
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    refusals = find(name).refusals(serialised([choose], [flag, floats("x", 2)], [floats("y", 2)]))
    assert [(refusal.operator, refusal.node) for refusal in refusals] == [("Frobnicate", "inside")]


@pytest.mark.parametrize("name", NAMES)
def test_opening_an_unknown_operator_names_it(name: str) -> None:
    with pytest.raises(UnsupportedError, match="Frobnicate"):
        here(name).open(frobnicating(), options(name, Build()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("graph", [b"no model at all", matmul()[:-20]], ids=["text", "cut short"])
def test_bytes_that_are_no_model_are_refused(name: str, graph: bytes) -> None:
    if find(name).missing() is None:
        with pytest.raises(UnsupportedError):
            find(name).open(graph, options(name, Build()))
    with pytest.raises(UnsupportedError, match=f"{len(graph)} bytes are no ONNX model"):
        find(name).refusals(graph)
