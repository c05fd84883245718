"""Every pass fulfils the contract; a new file is tested the day it lands."""

from __future__ import annotations

import dataclasses
import inspect
import json

import pytest
from tiny import adapted_tiny
from tiny_models import adapted_onnx

from sanderling import lookup
from sanderling.codec import plain
from sanderling.compile.pass_runner import PassResult
from sanderling.compile.recipe import from_mapping
from sanderling.compile.work import begin
from sanderling.errors import RecipeError

PASSES = lookup.names("pass")
ANYWHERE = ("quantize",)
"""Passes that take any model, a ready graph too."""


@pytest.mark.parametrize("name", PASSES)
def test_is_a_frozen_dataclass_with_documented_options(name: str) -> None:
    kind = lookup.find("pass", name)
    assert dataclasses.is_dataclass(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        lookup.find("pass", name)().surprise = 1
    text = inspect.getdoc(kind) or ""
    assert all(f"{field.name}:" in text for field in dataclasses.fields(kind)), "each option needs a line"
    assert inspect.getdoc(inspect.getmodule(kind))
    for method in ("requires", "apply", "ensures"):
        assert inspect.getdoc(getattr(kind, method))


@pytest.mark.parametrize("name", PASSES)
def test_defaults_are_written_into_the_bundle_as_json(name: str) -> None:
    json.dumps(plain(lookup.find("pass", name)()))


@pytest.mark.parametrize("name", PASSES)
def test_a_recipe_names_it_and_refuses_options_it_lacks(name: str) -> None:
    recipe = from_mapping({"passes": [name]})
    assert recipe.passes == ((name, lookup.find("pass", name)()),)
    with pytest.raises(RecipeError, match=f"pass '{name}' has no option 'surprise'"):
        from_mapping({"passes": [{name: {"surprise": 1}}]})


@pytest.mark.parametrize("name", PASSES)
def test_a_ready_graph_without_sites_is_refused_with_the_reason(name: str) -> None:
    work = begin(adapted_onnx())
    if name in ANYWHERE:
        assert lookup.find("pass", name)().requires(work) is None
        return
    refusal = lookup.find("pass", name)().requires(work)
    assert refusal is not None
    assert "'ready' has no site" in refusal or "'classify' is a ready graph" in refusal


@pytest.mark.parametrize("name", PASSES)
def test_says_what_it_changed_leaves_the_given_work_alone_and_keeps_its_promise(name: str) -> None:
    step, work = lookup.find("pass", name)(), begin(adapted_tiny())
    assert step.requires(work) is None
    result = step.apply(work)
    assert isinstance(result, PassResult)
    assert result.changed
    assert len(work.graphs) == 1
    assert step.ensures(result.work) is None
