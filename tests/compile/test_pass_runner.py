"""The runner holds passes to their contract and blames by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from tiny_models import adapted_onnx, with_part

from sanderling.compile.pass_runner import PassResult, run_passes
from sanderling.compile.work import GraphPlan, Work, begin
from sanderling.errors import InternalError, RecipeError


def unchanged(work: Work) -> PassResult:
    return PassResult(work, ())


def with_graph(name: str, said: tuple[str, ...]) -> Callable[[Work], PassResult]:
    return lambda work: PassResult(replace(work, graphs=(*work.graphs, GraphPlan("classify", name))), said)


@dataclass(frozen=True)
class Fake:
    """A pass that answers what it is told to."""

    does: Callable[[Work], PassResult] = unchanged
    refusal: str | None = None
    broken: str | None = None

    def requires(self, work: Work) -> str | None:
        return self.refusal

    def apply(self, work: Work) -> PassResult:
        assert self.refusal is None, "a pass that refused must not be applied"
        return self.does(work)

    def ensures(self, work: Work) -> str | None:
        return self.broken


def test_work_goes_from_pass_to_pass_and_changes_are_told_by_name() -> None:
    work = begin(adapted_onnx())
    steps = [("one", Fake(with_graph("a", ("added a",)))), ("none", Fake()), ("two", Fake(with_graph("b", ("x", "y"))))]
    result, changes = run_passes(work, steps)
    assert [graph.name for graph in result.graphs] == ["full", "a", "b"]
    assert changes == ("one: added a", "two: x", "two: y")
    assert [graph.name for graph in work.graphs] == ["full"]


def test_no_passes_change_nothing() -> None:
    work = begin(adapted_onnx())
    assert run_passes(work, ()) == (work, ())


def test_a_refusal_carries_its_reason_and_what_ran_before() -> None:
    with pytest.raises(RecipeError, match=r"pass 'b' cannot run: rank is 3 \(passes done before: a\)"):
        run_passes(begin(adapted_onnx()), [("a", Fake()), ("b", Fake(refusal="rank is 3"))])
    with pytest.raises(RecipeError, match=r"\(passes done before: none\)"):
        run_passes(begin(adapted_onnx()), [("b", Fake(refusal="rank is 3"))])


def test_a_broken_promise_is_ours_to_mend() -> None:
    with pytest.raises(InternalError, match="pass 'a' left the model in a state it must not: two graphs"):
        run_passes(begin(adapted_onnx()), [("a", Fake(broken="two graphs"))])


@pytest.mark.parametrize(
    "does",
    [
        with_graph("a", ()),
        lambda work: PassResult(replace(work, adapted=with_part(work.adapted, "classify", bound=1.0)), ()),
    ],
    ids=["a graph", "the model"],
)
def test_a_silent_change_is_refused(does: Callable[[Work], PassResult]) -> None:
    with pytest.raises(InternalError, match="pass 'a' changed the model without saying what"):
        run_passes(begin(adapted_onnx()), [("a", Fake(does))])


def test_an_equal_copy_is_no_change() -> None:
    work = begin(adapted_onnx())
    assert run_passes(work, [("a", Fake(lambda w: PassResult(replace(w), ())))])[1] == ()
