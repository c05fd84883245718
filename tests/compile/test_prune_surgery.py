"""A pruned module computes what the whole one computes with the same units masked to zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dual_encoders import reduce_at
from prunable import HEADS, HIDDEN, WIDTH, Built, Stack, answers, families, masked, stack, tokens
from torch import Tensor, nn

from sanderling.compile.blocks.attention import Attention
from sanderling.compile.blocks.transformer import EncoderLayer
from sanderling.compile.pruning.gates import gated
from sanderling.compile.pruning.groups import Group, find_groups
from sanderling.compile.pruning.surgery import prune_module
from sanderling.errors import RecipeError

# Sums over fewer terms are added in another order; outputs have size 1 to 30, float32 holds 7 digits.
ROUNDING = 1e-6
FAMILIES = (
    "clip.vision", "clip.text", "siglip.vision", "siglip.text", "scene.vision", "scene.text", "scene.fusion",
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Built, tuple[Tensor, ...]]]:
    return families(tmp_path_factory.mktemp("families"))


def some(groups: tuple[Group, ...], *kinds: str) -> dict[Group, tuple[int, ...]]:
    """Return cuts that differ from group to group."""
    cuts = {}
    for number, group in enumerate(groups):
        if group.kind in kinds:
            cuts[group] = tuple((number + unit) % group.units for unit in range(max(1, group.units // 3)))
    return cuts


def assert_close(one: list[Tensor], other: list[Tensor]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        size = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(mine, theirs, atol=ROUNDING * size, rtol=0)


@pytest.mark.parametrize("kinds", [("heads",), ("channels",), ("layers",), ("heads", "channels", "layers")])
@pytest.mark.parametrize("name", FAMILIES)
def test_pruned_equals_masked(
    name: str, kinds: tuple[str, ...], built: dict[str, tuple[Built, tuple[Tensor, ...]]]
) -> None:
    build, inputs = built[name]
    whole = build(None)
    cuts = some(find_groups(whole), *kinds)
    assert {group.kind for group in cuts} == set(kinds)
    small = prune_module(whole, cuts)
    assert_close(answers(small, *inputs), answers(masked(whole, cuts), *inputs))
    assert not all(torch.equal(a, b) for a, b in zip(answers(small, *inputs), answers(whole, *inputs), strict=True))


@pytest.mark.parametrize("reducer", ["random", "grid", "saliency", "merge"])
@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("name", ["clip.vision", "siglip.vision"])
def test_a_reducing_part_is_pruned_alike(
    name: str, layer: int, reducer: str, built: dict[str, tuple[Built, tuple[Tensor, ...]]]
) -> None:
    """Masked heads attend evenly and have keys of zero, so they move no ranking."""
    build, inputs = built[name]
    cuts = some(find_groups(build(None)), "heads", "channels")
    whole = build(reduce_at(reducer, layer))
    keep = torch.tensor(6)
    assert_close(answers(prune_module(whole, cuts), *inputs, keep), answers(masked(whole, cuts), *inputs, keep))


@pytest.mark.parametrize("name", FAMILIES)
def test_gates_at_zero_equal_the_pruned_module(name: str, built: dict[str, tuple[Built, tuple[Tensor, ...]]]) -> None:
    build, inputs = built[name]
    whole = build(None)
    cuts = some(find_groups(whole), "heads", "channels", "layers")
    settings = {}
    for group, units in cuts.items():
        settings[group] = torch.ones(group.units)
        settings[group][list(units)] = 0
    with gated(whole, list(cuts), settings):
        by_gates = answers(whole, *inputs)
    assert_close(answers(prune_module(whole, cuts), *inputs), by_gates)
    plain = answers(whole, *inputs)
    assert_close(plain, answers(build(None), *inputs))


def test_tensors_get_smaller() -> None:
    small: Any = prune_module(stack(), some(find_groups(stack()), "heads", "channels", "layers"))
    assert len(small.encoders) == len(small.crosses) == 1
    attention, feed = small.crosses[0].cross_attn, small.crosses[0].mlp
    head = WIDTH // HEADS
    assert (attention.heads, attention.head_width) == (HEADS - 1, head)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        assert projection.weight.shape == (3 * head, WIDTH)
        assert projection.bias.shape == (3 * head,)
    assert attention.out_proj.weight.shape == (WIDTH, 3 * head)
    assert feed.fc1.weight.shape == (HIDDEN * 2 // 3, WIDTH)
    assert feed.fc2.weight.shape == (WIDTH, HIDDEN * 2 // 3)
    assert (feed.fc1.out_features, feed.fc2.in_features) == (16, 16)


def test_the_given_module_stays_and_the_copy_owns_its_weights() -> None:
    whole = stack()
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    small = prune_module(whole, some(find_groups(whole), "heads", "channels"))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.fill_(7)
    assert all(torch.equal(before[name], tensor) for name, tensor in whole.state_dict().items())


def test_the_copy_can_be_trained_and_keeps_what_was_frozen() -> None:
    whole = stack().train()
    frozen: Any = whole.get_submodule("encoders.0.mlp")
    frozen.requires_grad_(False)
    small: Any = prune_module(whole, some(find_groups(whole), "heads", "channels"))
    assert all(part.training for part in small.modules())
    small(tokens()).square().mean().backward()
    names = {name for name, parameter in small.named_parameters() if parameter.grad is not None}
    assert names == {name for name, _ in small.named_parameters() if not name.startswith("encoders.0.mlp")}


def test_what_is_in_a_removed_layer_goes_with_it() -> None:
    whole = stack()
    stacked = Group("layers", "encoders", 2)
    with_more = {stacked: (0,), Group("heads", "encoders.0.self_attn", HEADS): (1,)}
    assert torch.equal(prune_module(whole, with_more)(tokens()), prune_module(whole, {stacked: (0,)})(tokens()))


def test_an_attention_s_heads_need_not_fill_its_width() -> None:
    attention = Attention(WIDTH, 3, context_width=8, head_width=5)
    assert attention.q_proj.weight.shape == (15, WIDTH)
    assert attention.k_proj.weight.shape == (15, 8)
    assert attention(tokens(), torch.zeros(3, 7, 8)).shape == (3, 5, WIDTH)
    with pytest.raises(ValueError, match="width 16 is not a multiple of 3 heads"):
        Attention(WIDTH, 3)


def test_groups_are_found_by_what_a_module_is_made_of() -> None:
    found = find_groups(Stack(1, 1))
    assert [(group.kind, group.path, group.units) for group in found] == [
        ("layers", "encoders", 1),
        ("heads", "encoders.0.self_attn", HEADS),
        ("channels", "encoders.0.mlp", HIDDEN),
        ("layers", "crosses", 1),
        ("heads", "crosses.0.self_attn", HEADS),
        ("heads", "crosses.0.cross_attn", HEADS),
        ("channels", "crosses.0.mlp", HIDDEN),
    ]
    assert find_groups(nn.Linear(2, 2)) == ()
    assert find_groups(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])) == ()
    shared = EncoderLayer(WIDTH, HEADS, HIDDEN)
    assert [group.kind for group in find_groups(nn.ModuleList([shared, shared]))] == ["heads", "channels"]


def test_a_module_that_is_an_attention_itself_can_be_pruned() -> None:
    group = Group("heads", "", HEADS)
    attention = Attention(WIDTH, HEADS)
    assert find_groups(attention) == (group,)
    cuts = {group: (2,)}
    assert_close(answers(prune_module(attention, cuts), tokens()), answers(masked(attention, cuts), tokens()))


@pytest.mark.parametrize(
    ("cuts", "reason"),
    [
        ({Group("heads", "encoders.0.self_attn", 5): (1,)}, "no 5 heads of 'encoders.0.self_attn'; it has 2 layers"),
        ({Group("heads", "encoders.7.self_attn", 4): (1,)}, "no 4 heads of 'encoders.7.self_attn'"),
        ({Group("heads", "encoders.0.self_attn", 4): (4,)}, "heads 0 to 3, asked to remove 4"),
        ({Group("heads", "encoders.0.self_attn", 4): (-1,)}, "heads 0 to 3, asked to remove -1"),
        ({Group("layers", "crosses", 2): (0, 1)}, "all 2 layers of 'crosses' would be removed"),
        ({Group("channels", "encoders.0.mlp", 24): tuple(range(24))}, "all 24 channels"),
    ],
)
def test_cuts_that_cannot_be_made_are_refused(cuts: dict[Group, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        prune_module(stack(), cuts)


def test_a_projection_that_is_no_plain_linear_is_refused() -> None:
    whole: Any = stack()
    whole.encoders[0].mlp.fc1 = nn.Sequential(nn.Linear(WIDTH, HIDDEN))
    with pytest.raises(RecipeError, match=r"'fc1' of encoders\.0\.mlp is Sequential, expected nn\.Linear"):
        find_groups(whole)
