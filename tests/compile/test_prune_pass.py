"""The pass that prunes: every option turns something, wrong ones are refused, and every graph gets the same surgery."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dual_encoders import build, clip, exported, ids, pixels, reduce_at
from prunable import answers, masked
from tiny import VISION, adapted_tiny, tiny_data
from tiny_models import adapted_loop, adapted_onnx
from torch import nn

from sanderling.compile.architecture import Adapted
from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.flops import multiply_adds, parameters
from sanderling.compile.pass_runner import run_passes
from sanderling.compile.passes.prune import Prune
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.pruning.groups import find_groups
from sanderling.compile.pruning.part import PrunedBuild, prune_part
from sanderling.compile.pruning.surgery import prune_module
from sanderling.compile.samples import with_samples
from sanderling.compile.work import Work, begin
from sanderling.errors import RecipeError

HALF = Prune(heads=0.5, channels=0.5)


@pytest.fixture
def work() -> Work:
    """The tiny model: 2 layers of 2 heads and 64 channels; samples to judge by."""
    return with_samples(begin(adapted_tiny()), tiny_data(), 4)


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    """CLIP with a picture part of 4 layers, 4 heads and 48 channels, and a text part of 2, 3 and 40."""
    folder = tmp_path_factory.mktemp("clip")
    clip().save_pretrained(folder)
    return adapt_folder(folder)


def pruned(step: Prune, work: Work) -> Work:
    assert step.requires(work) is None
    result = step.apply(work).work
    assert step.ensures(result) is None
    return result


def cuts(step: Prune, work: Work, component: str = "vision") -> dict[str, tuple[int, ...]]:
    made = pruned(step, work).part(component).build
    assert isinstance(made, PrunedBuild)
    return {group.path: units for group, units in made.cuts.items()}


def sizes(module: nn.Module) -> dict[str, int]:
    return {group.path: group.units for group in find_groups(module)}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, {"encoder.layers": 2, "encoder.layers.1.self_attn": 2, "encoder.layers.1.mlp": 48}),
        ({"channels": 0.3}, {"encoder.layers.0.mlp": 48}),
        ({"channels": 0.3, "multiple": 1}, {"encoder.layers.0.mlp": 45}),
        ({"heads": 0.5}, {"encoder.layers.0.self_attn": 1, "encoder.layers.1.self_attn": 1}),
        ({"layers": 0.5}, {"encoder.layers": 1}),
        ({"drop": (1,)}, {"encoder.layers": 1}),
    ],
    ids=["default", "channels", "multiple", "heads", "layers", "drop"],
)
def test_every_share_turns_its_own_count(options: dict[str, Any], left: dict[str, int], work: Work) -> None:
    found = sizes(build(pruned(Prune(**options), work).adapted, "vision"))
    assert found | left == found


def test_layers_go_by_importance_or_by_number(work: Work) -> None:
    by_number = [cuts(Prune(channels=0, drop=(number,)), work) for number in (1, 2)]
    assert by_number == [{"encoder.layers": (0,)}, {"encoder.layers": (1,)}]
    by_importance = cuts(Prune(channels=0, layers=0.5, importance="ablation"), work)
    whole = build(work.adapted, "vision")
    stack = find_groups(whole)[0]
    change = [
        sum(
            float((answers(whole, *batch)[0] - answers(masked(whole, {stack: (n,)}), *batch)[0]).square().sum())
            for batch in work.samples["vision"]
        )
        for n in range(2)
    ]
    assert by_importance == {"encoder.layers": (int(np.argmin(change)),)}


def test_importance_and_spread_turn_the_choice(work: Work) -> None:
    chosen = [cuts(Prune(importance=how), work) for how in ("magnitude", "taylor", "fisher", "ablation")]
    assert len({str(sorted(choice.items())) for choice in chosen}) == 4
    even, spread = (cuts(Prune(importance="taylor", multiple=1, spread=s), work) for s in ("even", "global"))
    assert len(even["encoder.layers.0.mlp"]) == len(even["encoder.layers.1.mlp"]) == 16
    counts = [len(spread[f"encoder.layers.{n}.mlp"]) for n in range(2)]
    assert sum(counts) == 32
    assert counts[0] != counts[1]


def test_components_are_chosen_by_name_or_by_what_they_have(dual: Adapted) -> None:
    work = begin(dual)
    both = pruned(Prune(), work)
    assert all(isinstance(part.build, PrunedBuild) for part in both.adapted.parts)
    only = pruned(Prune(components=("text",)), work)
    assert [isinstance(part.build, PrunedBuild) for part in only.adapted.parts] == [False, True]
    assert only.part("vision") is work.part("vision")


def test_samples_turn_the_choice(work: Work) -> None:
    step = Prune(importance="fisher", multiple=1)
    fewer = replace(work, samples={"vision": work.samples["vision"][:1]})
    assert cuts(step, work) != cuts(step, fewer)


def test_what_it_bought_is_said_in_parameters_and_multiply_adds(work: Work) -> None:
    step = HALF
    sentence = step.apply(work).changed[0]
    whole, small = build(work.adapted, "vision"), build(pruned(step, work).adapted, "vision")
    example = work.part("vision").example
    assert sentence.startswith("vision lost 2 of 4 heads, 64 of 128 channels: ")
    for before, after in (
        (parameters(whole), parameters(small)),
        (multiply_adds(whole, example) // 2, multiply_adds(small, example) // 2),
    ):
        assert f"{before:,} -> {after:,} ({after / before - 1:+.0%})" in sentence


def test_every_graph_is_pruned_alike_and_equals_the_masked_model(dual: Adapted) -> None:
    small = pruned(HALF, begin(dual)).adapted
    made = small.parts[0].build
    assert isinstance(made, PrunedBuild)
    for at, levers in ((None, ()), (reduce_at("saliency", 1), (torch.tensor(5),))):
        whole = masked(build(dual, "vision", at), made.cuts)
        for mine, theirs in zip(
            answers(build(small, "vision", at), pixels(), *levers), answers(whole, pixels(), *levers), strict=True
        ):
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)
    assert small.source != dual.source
    assert small.source == pruned(HALF, begin(dual)).adapted.source
    assert small.spec == dual.spec


def test_a_pruned_model_exports_with_its_lever(dual: Adapted) -> None:
    small = pruned(Prune(components=("vision",), heads=0.25, layers=0.25), begin(dual)).adapted
    at = reduce_at("saliency", 1)
    module = build(small, "vision", at)
    graph = exported(small, "vision", module, {"tokens.image": 8})
    for keep in (16, 5):
        wanted = answers(module, pixels(), torch.tensor(keep))
        for mine, theirs in zip(graph(pixels(), torch.tensor(keep)), wanted, strict=True):
            np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-5)


def test_sites_count_the_layers_that_are_left(dual: Adapted) -> None:
    assert [site.layer for site in dual.spec.sites] == [0, 1, 2]
    cases = {(1,): [0, 1], (2,): [0, 1], (3,): [0, 1, 2], (1, 2): [0], (1, 3): [0, 1]}
    for drop, layers in cases.items():
        spec = pruned(Prune(components=("vision",), channels=0, drop=drop), begin(dual)).adapted.spec
        assert [site.layer for site in spec.sites] == layers
    untouched = pruned(Prune(components=("text",), channels=0, drop=(1,)), begin(dual)).adapted.spec
    assert untouched == dual.spec


def test_a_site_behind_the_first_layers_left_acts_where_it_did(dual: Adapted) -> None:
    small = pruned(Prune(components=("vision",), channels=0, drop=(1,)), begin(dual)).adapted
    made = small.parts[0].build
    assert isinstance(made, PrunedBuild)
    # Layer 2 of the whole model is layer 1 of what is left.
    whole = masked(build(dual, "vision", reduce_at("saliency", 2)), made.cuts)
    keep = torch.tensor(4)
    mine = answers(build(small, "vision", reduce_at("saliency", 1)), pixels(), keep)
    for one, other in zip(mine, answers(whole, pixels(), keep), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_probes_follow_the_number_of_heads(dual: Adapted) -> None:
    assert dual.parts[0].probe == (3,)
    small = pruned(Prune(heads=0.25), begin(dual)).adapted
    assert small.parts[0].probe == (2, 3)
    lever = replace(dual.spec.levers[0], minimum=3)
    narrow = replace(dual, spec=replace(dual.spec, levers=(lever,)))
    assert pruned(Prune(heads=0.25), begin(narrow)).adapted.parts[0].probe == (3,)


def test_reduce_after_prune_makes_graphs_of_the_pruned_model(work: Work) -> None:
    steps = (("prune", Prune(heads=0.5)), ("reduce", Reduce(reducers=("grid",), layers=(1,), fractions=(0.5,))))
    after, changes = run_passes(work, steps)
    assert [graph.name for graph in after.graphs] == ["full", "grid@1"]
    assert after.samples is work.samples
    assert sizes(build(after.adapted, "vision", after.graphs[1].reduce_at))["encoder.layers.0.self_attn"] == 1
    assert changes[0].startswith("prune: vision lost")
    before, _ = run_passes(work, steps[::-1])
    assert [graph.name for graph in before.graphs] == ["full", "grid@1"]


def test_pruning_twice_removes_more(work: Work) -> None:
    twice = pruned(Prune(), pruned(Prune(), work))
    assert sizes(build(twice.adapted, "vision"))["encoder.layers.0.mlp"] == 40


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"heads": 1.0}, "heads is 1.0, expected a share to remove, from 0 to below 1"),
        ({"channels": -0.5}, "channels is -0.5, expected"),
        ({"layers": float("nan")}, "layers is nan, expected"),
        ({"channels": 0}, "it is asked to remove nothing"),
        ({"layers": 0.5, "drop": (1,)}, "give one of them"),
        ({"drop": (0,)}, "drop is [0], expected different layers counted from 1"),
        ({"drop": (1, 1)}, "drop is [1, 1], expected different layers"),
        ({"drop": (3,)}, "'vision' has layers 1 to 2 in 'encoder.layers', drop names 3"),
        ({"drop": (1, 2)}, "drop would remove all 2 layers of 'encoder.layers'"),
        ({"importance": "size"}, "importance is 'size', expected one of magnitude, taylor, fisher, ablation"),
        ({"spread": "odd"}, "spread is 'odd', expected one of even, global"),
        ({"multiple": 0}, "multiple is 0, expected at least 1"),
        ({"components": ("sight",)}, "the model has no component 'sight'; it has vision"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options: dict[str, Any], reason: str, work: Work) -> None:
    assert reason in (Prune(**options).requires(work) or "")


def test_a_component_that_has_nothing_to_remove_is_refused() -> None:
    assert Prune().requires(begin(adapted_onnx())) == (
        "no component has all that is to be removed: component 'classify' is a ready graph, and pruning needs its "
        "torch module"
    )
    looped = Prune(components=("decode",)).requires(begin(adapted_loop()))
    assert looped == "component 'decode' has no channels that can be removed"
    with pytest.raises(RecipeError, match="'classify' is a ready graph"):
        prune_part(adapted_onnx(), "classify", {})


def test_importance_by_data_is_refused_without_data_of_the_right_form(work: Work) -> None:
    step = Prune(importance="fisher")
    assert "'fisher' needs samples of component 'vision' and there are none" in (
        step.requires(begin(work.adapted)) or ""
    )
    wrong = replace(work, samples={"vision": ((torch.zeros(2, 3),),)})
    assert "sample 0 of component 'vision' is float32 [2, 3], expected the form of float32 [2, 3, 32, 32]" in (
        step.requires(wrong) or ""
    )
    assert "is empty" in (step.requires(replace(work, samples={"vision": ((),)})) or "")
    assert Prune().requires(wrong) is None


@pytest.mark.parametrize("options", [{"heads": 0.1}, {"channels": 0.25, "multiple": 64}, {"layers": 0.2}])
def test_shares_that_round_to_nothing_are_refused(options: dict[str, Any], work: Work) -> None:
    kind = next(iter(options))
    with pytest.raises(RecipeError, match=f"{kind} {options[kind]} removes none of the"):
        Prune(**options).apply(work)


def test_layers_cannot_go_once_graphs_count_them(work: Work) -> None:
    reduced = Reduce(reducers=("grid",), layers=(1,), fractions=(0.5,)).apply(work).work
    assert Prune(drop=(1,)).requires(reduced) == (
        "graph 'grid@1' of 'vision' counts layers already; put prune before reduce"
    )
    assert Prune().requires(reduced) is None


def test_layers_of_two_stacks_cannot_go_from_a_part_with_sites(dual: Adapted) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = build(dual, "vision"), build(dual, "vision")

    twin = replace(dual, parts=(replace(dual.parts[0], build=lambda _: Twice()), dual.parts[1]))
    stacks = [group for group in find_groups(Twice()) if group.kind == "layers"]
    with pytest.raises(RecipeError, match="would lose layers in 2 stacks"):
        prune_part(twin, "vision", dict.fromkeys(stacks, (0,)))


class Grown(nn.Module):
    """Answers in another form than the model it wraps."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return one output of several."""
        first: torch.Tensor = self.whole(*inputs)[0]
        return first


def test_a_wrong_result_is_noticed(work: Work) -> None:
    part = work.part("vision")
    assert part.build is not None
    same = replace(part, build=PrunedBuild(part.build, {}))
    assert "nothing was removed from component 'vision'" in (
        Prune().ensures(replace(work, adapted=replace(work.adapted, parts=(same,)))) or ""
    )
    calls = iter([part.build(None), Grown(part.build(None))])
    other = replace(part, build=PrunedBuild(lambda _: next(calls), {}))
    assert "answers in another form than before" in (
        Prune().ensures(replace(work, adapted=replace(work.adapted, parts=(other,)))) or ""
    )


def test_the_pruned_module_is_ready_to_be_trained(work: Work) -> None:
    small = build(pruned(HALF, work).adapted, "vision")
    assert not small.training
    small(work.part("vision").example[0])[0].sum().backward()
    # The last norm's output is summed over all tokens, so every weight gets a gradient.
    assert all(parameter.grad is not None for parameter in small.parameters())
    assert VISION.hidden == 64


def test_text_is_pruned_to_its_own_sizes(dual: Adapted) -> None:
    small = build(pruned(Prune(components=("text",), heads=0.3), begin(dual)).adapted, "text")
    assert sizes(small)["encoder.layers.0.self_attn"] == 2
    assert sizes(small)["encoder.layers.0.mlp"] == 32
    assert answers(small, ids(2, 7))[0].shape == (2, 20)


def test_the_user_s_own_module_is_left_alone() -> None:
    from prunable import stack, tokens

    from sanderling.compile.sources import adapt_module

    own = stack()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    work = begin(adapt_module(own, {"x": tokens(2, 4)}))
    small = build(pruned(replace(HALF, layers=0.5), work).adapted, work.adapted.parts[0].component)
    assert parameters(small) < parameters(own)
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())
    assert prune_module(own, {}) is not own


def test_recipes_reach_every_option(tmp_path: Path) -> None:
    from sanderling.compile.recipe import read_recipe

    path = tmp_path / "recipe.yaml"
    path.write_text(
        "passes:\n  - prune: {components: [vision], heads: 0.5, channels: 0, drop: [1], importance: fisher, "
        "spread: global, multiple: 16}\n"
    )
    assert read_recipe(path).passes == (("prune", Prune(("vision",), 0.5, 0, 0.0, (1,), "fisher", "global", 16)),)


def test_a_pruned_model_compiles_to_a_smaller_bundle_that_passes_its_self_test(tmp_path: Path) -> None:
    """Golden outputs come from the pruned torch module, so the engine is held against it."""
    from tiny_models import compile_quick

    import sanderling
    from sanderling.compile.recipe import Recipe

    recipe = Recipe(passes=(("prune", Prune(heads=0.5, layers=0.5)),), targets=("onnxruntime",), threads=1)
    bundle = compile_quick(adapted_tiny(), tmp_path, recipe=recipe, evaluation=tiny_data(2))
    small = build(pruned(Prune(heads=0.5, layers=0.5), begin(adapted_tiny())).adapted, "vision")
    assert bundle.stat().st_size < 4 * parameters(build(adapted_tiny(), "vision"))
    sample = tiny_data(1).samples[0]
    answer = sanderling.load(bundle).run(sample)
    pixels_in = with_samples(begin(adapted_tiny()), tiny_data(1), 1).samples["vision"][0]
    np.testing.assert_allclose(answer.outputs["scores"], answers(small, *pixels_in)[0].numpy(), atol=1e-4)
