"""2:4 sparsity by magnitude, held against torch's own sparsifier, and the pass that applies it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from dual_encoders import build
from prunable import answers, stack, tokens
from tiny import adapted_tiny
from tiny_models import adapted_loop, adapted_onnx
from torch import nn
from torch.ao.pruning.sparsifier.weight_norm_sparsifier import WeightNormSparsifier

from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.pass_runner import run_passes
from sanderling.compile.passes.prune import Prune
from sanderling.compile.passes.sparsify_2_4 import Sparsify24
from sanderling.compile.pruning.sparsity import SparseBuild, is_two_of_four, sparse_layers, sparsify, two_of_four
from sanderling.compile.work import Work, begin
from sanderling.errors import RecipeError


def weight(rows: int = 6, columns: int = 16) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def test_the_two_largest_of_four_stay_as_in_torch_s_sparsifier() -> None:
    model = nn.Sequential(nn.Linear(16, 6))
    model[0].weight.data = weight()
    sparsifier = WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2)
    sparsifier.prepare(model, config=[{"tensor_fqn": "0.weight"}])  # type: ignore[no-untyped-call]
    sparsifier.step()
    sparsifier.squash_mask()
    assert torch.equal(two_of_four(weight()), model[0].weight.data)


def test_no_other_choice_of_two_keeps_more() -> None:
    kept = two_of_four(weight()).reshape(-1, 4).square().sum(1)
    choices = [weight().reshape(-1, 4)[:, pair].square().sum(1) for pair in itertools.combinations(range(4), 2)]
    torch.testing.assert_close(kept, torch.stack(choices).amax(0))


def test_of_equal_weights_the_first_stay() -> None:
    assert two_of_four(torch.ones(1, 8)).tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]]


def test_the_check_counts_what_is_not_zero_in_every_four() -> None:
    assert not is_two_of_four(weight())
    assert is_two_of_four(two_of_four(weight()))
    assert is_two_of_four(torch.zeros(1, 4))
    # As many zeros, but three in one four.
    assert not is_two_of_four(torch.tensor([[1.0, 2, 3, 0, 1, 0, 0, 0]]))


@pytest.mark.parametrize("shape", [(2, 6), (8,), (2, 4, 4)])
def test_weights_that_do_not_divide_into_fours_are_refused(shape: tuple[int, ...]) -> None:
    for function in (two_of_four, is_two_of_four):
        with pytest.raises(RecipeError, match=r"cannot be 2:4; expected rows of a multiple of 4 columns"):
            function(torch.ones(shape))


def test_a_sparse_copy_leaves_the_given_module_and_can_be_trained() -> None:
    whole = stack()
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    sparse = sparsify(whole)
    assert all(torch.equal(before[name], tensor) for name, tensor in whole.state_dict().items())
    for path in sparse_layers(whole):
        assert torch.equal(sparse.get_parameter(f"{path}.weight"), two_of_four(before[f"{path}.weight"]))
    sparse(tokens()).sum().backward()
    assert all(parameter.grad is not None for parameter in sparse.parameters())
    assert sparse_layers(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 6))) == ("1",)


@pytest.fixture
def work() -> Work:
    return begin(adapted_tiny())


def test_the_pass_builds_every_graph_sparse(work: Work) -> None:
    step = Sparsify24()
    assert step.requires(work) is None
    result = step.apply(work)
    assert step.ensures(result.work) is None
    assert result.work.adapted.source != work.adapted.source
    whole = build(work.adapted, "vision")
    paths = sparse_layers(whole)
    zeros = sum(whole.get_parameter(f"{path}.weight").numel() for path in paths) // 2
    total = sum(parameter.numel() for parameter in whole.parameters())
    assert result.changed == (
        f"vision: {len(paths)} linear layers are 2:4 sparse, {zeros:,} of {total:,} parameters are zero",
    )
    from sanderling import lookup

    for at in (None, ReduceAt(lookup.find("reducer", "grid"), 1)):
        made = build(result.work.adapted, "vision", at)
        assert all(is_two_of_four(made.get_parameter(f"{path}.weight")) for path in paths)
    pictures = work.part("vision").example
    assert not torch.equal(answers(whole, *pictures)[0], answers(build(result.work.adapted, "vision"), *pictures)[0])


def test_components_are_chosen_by_name() -> None:
    parts = tuple(replace(part, component=name) for part in adapted_tiny().parts for name in ("one", "other"))
    two = begin(replace(adapted_tiny(), parts=parts))
    made = [Sparsify24(components=names).apply(two).work.adapted.parts for names in ((), ("other",))]
    assert [[isinstance(part.build, SparseBuild) for part in parts] for parts in made] == [[True, True], [False, True]]


@pytest.mark.parametrize(
    ("options", "adapted", "reason"),
    [
        ({"engine": "onnxruntime"}, adapted_tiny, "engine 'onnxruntime' gains nothing from 2:4 sparsity"),
        ({"engine": "openvino"}, adapted_tiny, "it pays on tensorrt, elsewhere use the pass prune"),
        ({"components": ("sight",)}, adapted_tiny, "the model has no component 'sight'; it has vision"),
        ({}, adapted_onnx, "component 'classify' is a ready graph"),
    ],
)
def test_what_gains_nothing_is_refused(options: dict[str, Any], adapted: Any, reason: str) -> None:
    assert reason in (Sparsify24(**options).requires(begin(adapted())) or "")


def test_a_component_without_a_fitting_layer_is_refused_when_named() -> None:
    loop = adapted_loop()
    odd = replace(loop, parts=tuple(replace(p, build=lambda _: nn.Linear(6, 6)) for p in loop.parts))
    assert (
        Sparsify24(components=("decode",)).requires(begin(odd))
        == "component 'decode' has no linear layer whose inputs divide into fours"
    )
    assert "'denoise' has no linear layer" in (Sparsify24().requires(begin(odd)) or "")


def test_a_dense_layer_left_is_noticed(work: Work) -> None:
    part = work.part("vision")
    assert part.build is not None
    build_sparse = SparseBuild(part.build)

    class Dense(SparseBuild):
        def __call__(self, reduce_at: ReduceAt | None) -> nn.Module:
            return self.original(reduce_at)

    wrong = replace(work, adapted=replace(work.adapted, parts=(replace(part, build=Dense(build_sparse.original)),)))
    assert Sparsify24().ensures(wrong) == "layer 'encoder.patch_embedding' of component 'vision' is not 2:4"


def test_pruning_comes_first(work: Work) -> None:
    both = (("prune", Prune()), ("sparsify_2_4", Sparsify24()))
    made, _ = run_passes(work, both)
    feed = build(made.adapted, "vision").get_parameter("encoder.layers.0.mlp.fc2.weight")
    assert feed.shape == (32, 48)
    assert is_two_of_four(feed)
    with pytest.raises(RecipeError, match="put prune before sparsify_2_4"):
        run_passes(work, both[::-1])
