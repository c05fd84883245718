"""The pass that gives a model token levers: each option turns something, and wrong ones are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tiny import adapted_tiny

from sanderling import lookup
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.work import GraphPlan, Work, begin
from sanderling.errors import RecipeError, UnknownNameError
from sanderling.spec import Lever


@pytest.fixture
def work() -> Work:
    """The tiny model: 16 tokens, sites at layers 0 and 1."""
    return begin(adapted_tiny())


def added(step: Reduce, work: Work) -> tuple[GraphPlan, ...]:
    assert step.requires(work) is None
    result = step.apply(work).work
    assert step.ensures(result) is None
    assert result.graphs[0] == GraphPlan("vision")
    return result.graphs[1:]


def test_by_default_baselines_and_two_rules_at_the_two_preferred_sites(work: Work) -> None:
    graphs = added(Reduce(), work)
    rules = ("random", "grid", "saliency", "merge")
    assert {graph.name for graph in graphs} == {f"{rule}@{layer}" for rule in rules for layer in (0, 1)}
    assert all(graph.levers == ("tokens.image",) for graph in graphs)
    # 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.12 and 0.08 of 16 tokens, rounded.
    assert {graph.settings for graph in graphs} == {(12, 10, 8, 6, 5, 3, 2, 1)}


@pytest.mark.parametrize(
    ("options", "names", "settings"),
    [
        ({"reducers": ("merge",)}, ["merge@0", "merge@1"], (8,)),
        ({"layers": (1,)}, ["random@1", "saliency@1"], (8,)),
        ({"layers": (1,), "reducers": ("grid",)}, ["grid@1"], (8,)),
        ({"layers": (0,), "reducers": ("grid",), "fractions": (0.25, 0.9)}, ["grid@0"], (14, 4)),
        ({"layers": (0,), "reducers": ("grid",), "fractions": (0.01, 0.02)}, ["grid@0"], (1,)),
    ],
    ids=["reducers", "layers", "both", "fractions", "the lever's minimum"],
)
def test_every_option_turns_something(
    options: dict[str, Any], names: list[str], settings: tuple[int, ...], work: Work
) -> None:
    step = replace(Reduce(reducers=("random", "saliency"), fractions=(0.5,)), **options)
    graphs = added(step, work)
    assert [graph.name for graph in graphs] == names
    assert {graph.settings for graph in graphs} == {settings}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layers": (5,)}, r"no site at layer 5; sites are at [0, 1]"),
        ({"fractions": (0.5, 1.0)}, "fraction 1.0 is not between 0 and 1"),
        ({"fractions": (0.0,)}, "fraction 0.0 is not between 0 and 1"),
        ({"fractions": (-0.5,)}, "fraction -0.5 is not between 0 and 1"),
        ({"fractions": (float("nan"),)}, "fraction nan is not between 0 and 1"),
        ({"fractions": ()}, "reducers and fractions each need at least one entry"),
        ({"reducers": ()}, "reducers and fractions each need at least one entry"),
        ({"reducers": ("random", "random")}, "'random' is listed twice"),
        ({"layers": (1, 1)}, "1 is listed twice"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options: dict[str, Any], reason: str, work: Work) -> None:
    assert Reduce(**options).requires(work) == reason


def test_unknown_reducers_are_refused_with_the_known_ones(work: Work) -> None:
    with pytest.raises(UnknownNameError, match="unknown reducer 'salience'; did you mean 'saliency'"):
        Reduce(reducers=("salience",)).apply(work)


NEEDY = [name for name in lookup.names("reducer") if lookup.find("reducer", name).needs_text]


@pytest.mark.parametrize("name", NEEDY)
def test_reducers_that_need_the_text_are_refused_where_it_is_not_known(name: str, work: Work) -> None:
    assert Reduce(reducers=("random", name), layers=(1,)).requires(work) == (
        f"reducer {name!r} chooses by relevance to the text, which component 'vision' does not know at layer 1; "
        "leave it out, or compute the relevance in the component's module and say relevance=True in its Part"
    )


@pytest.mark.parametrize("name", NEEDY)
def test_reducers_that_need_the_text_are_taken_where_it_is_known(name: str, work: Work) -> None:
    parts = tuple(replace(part, relevance=True) for part in work.adapted.parts)
    knowing = begin(replace(work.adapted, parts=parts))
    assert [graph.name for graph in added(Reduce(reducers=(name,)), knowing)] == [f"{name}@0", f"{name}@1"]


def test_fractions_that_round_to_everything_are_refused(work: Work) -> None:
    with pytest.raises(RecipeError, match=r"of 16 tokens leave nothing out; give smaller ones"):
        Reduce(fractions=(0.99,)).apply(work)


def test_the_lever_s_range_bounds_the_settings(work: Work) -> None:
    spec = replace(work.adapted.spec, levers=(Lever("tokens.image", "tokens", 6, 16, 16),))
    narrow = begin(replace(work.adapted, spec=spec))
    assert added(Reduce(reducers=("grid",), layers=(0,), fractions=(0.5, 0.25)), narrow)[0].settings == (8, 6)


@pytest.mark.parametrize(
    ("graphs", "reason"),
    [
        ((GraphPlan("vision"), GraphPlan("vision", "a"), GraphPlan("vision", "a")), "have the same name"),
        ((GraphPlan("vision", "a"),), "no full graph for ['vision']"),
    ],
    ids=["twice", "full graph lost"],
)
def test_a_wrong_result_is_noticed(graphs: tuple[GraphPlan, ...], reason: str, work: Work) -> None:
    assert reason in (Reduce().ensures(replace(work, graphs=graphs)) or "")
