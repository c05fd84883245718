"""Importance equals what torch's own derivatives and brute force give, and every option turns it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from prunable import HEADS, HIDDEN, WIDTH, enlarged, masked, stack, tokens
from torch import Tensor, nn
from torch.func import jacrev

from sanderling.compile.blocks.transformer import FeedForward
from sanderling.compile.pruning.gates import gated
from sanderling.compile.pruning.groups import Group, find_groups
from sanderling.compile.pruning.importance import Evidence, score
from sanderling.errors import InputError, RecipeError

BATCHES = [(tokens(4, 5, 1),), (tokens(2, 3, 2),)]
MANY = Evidence(BATCHES, projections=400)


def squares(outputs: tuple[Tensor, ...], number: int) -> Tensor:
    """Return a loss of each sample that differs from batch to batch."""
    return outputs[0].square().flatten(1).mean(1) * (number + 1)


def jacobian(module: nn.Module, group: Group, sample: Tensor) -> Tensor:
    """Return d output / d gate by torch's own jacobian of the masked-weight form, [values, units]."""
    path = f"{group.path}.{'fc2' if group.kind == 'channels' else 'out_proj'}.weight"
    weight = module.get_parameter(path)

    def run(gate: Tensor) -> Any:
        columns = gate.repeat_interleave(weight.shape[1] // group.units)
        return torch.func.functional_call(module, {path: weight * columns}, (sample,)).flatten()

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        found: Tensor = jacrev(run)(torch.ones(group.units)).detach()
    return found.double()


@pytest.mark.parametrize("path", ["encoders.0.self_attn", "crosses.1.cross_attn", "encoders.1.mlp"])
def test_slopes_of_a_loss_equal_torch_s_jacobian(path: str) -> None:
    module = stack()
    group = next(group for group in find_groups(module) if group.path == path)
    slopes = []
    for number, (rows,) in enumerate(BATCHES):
        for sample in rows:
            output = module(sample[None]).flatten().double().detach()
            slopes.append(2 * (number + 1) / output.numel() * (output @ jacobian(module, group, sample[None])))
    wanted = torch.stack(slopes)
    evidence = Evidence(BATCHES, squares)
    taylor, fisher = (score(module, [group], how, evidence)[group] for how in ("taylor", "fisher"))
    torch.testing.assert_close(taylor, wanted.abs().mean(0), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(fisher, 0.5 * wanted.square().mean(0), rtol=1e-3, atol=1e-6)


def test_without_a_loss_fisher_is_the_gauss_newton_diagonal() -> None:
    module = stack()
    group = Group("heads", "encoders.0.self_attn", HEADS)
    wanted = torch.zeros(HEADS, dtype=torch.float64)
    for (rows,) in BATCHES:
        size = module(rows).detach().double().flatten(1).square().sum(1).mean()
        wanted += sum(jacobian(module, group, row[None]).square().sum(0) for row in rows) / size
    # 400 projections of 6 samples: a relative error of sqrt(2 / 2400) = 3 %, with room for four times as much.
    found = score(module, [group], "fisher", MANY)[group]
    torch.testing.assert_close(2 * found, wanted / 6, rtol=0.12, atol=0)


def test_a_unit_that_adds_linearly_has_its_exact_cost() -> None:
    """Behind a linear output the squared slope is the squared change itself, so ablation is the oracle."""
    module = enlarged(FeedForward(WIDTH, HIDDEN, "gelu"))
    group = Group("channels", "", HIDDEN)
    exact, estimated = (score(module, [group], how, MANY)[group] for how in ("ablation", "fisher"))
    torch.testing.assert_close(2 * estimated, exact, rtol=0.2, atol=1e-6)


def test_a_layer_s_slope_is_the_sum_over_what_it_adds() -> None:
    module = stack(2, 1)
    layers = [group for group in find_groups(module) if group.kind == "layers"]
    evidence = Evidence(BATCHES, squares)
    found = score(module, layers, "taylor", evidence)
    path = "encoders.1"
    parts: Any = module.get_submodule(path)
    total = []
    for number, (rows,) in enumerate(BATCHES):
        for sample in rows:

            def run(gate: Tensor, sample: Tensor = sample, number: int = number) -> Any:
                pieces = (("self_attn.out_proj", parts.self_attn.out_proj), ("mlp.fc2", parts.mlp.fc2))
                scaled = {f"{path}.{n}.{k}": v * gate for n, p in pieces for k, v in p.named_parameters()}
                return squares((torch.func.functional_call(module, scaled, (sample[None],)),), number)[0]

            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                total.append(torch.func.grad(run)(torch.tensor(1.0)).detach().abs())
    torch.testing.assert_close(found[layers[0]][1], torch.stack(total).double().mean(), rtol=1e-3, atol=1e-6)
    assert found[layers[1]].shape == (1,)


def test_ablation_equals_masking_the_weights() -> None:
    module = stack(2, 1)
    groups = find_groups(module)
    found = score(module, groups, "ablation", Evidence(BATCHES))
    for group in (groups[0], groups[1], groups[2]):
        for unit in (0, group.units - 1):
            change = torch.zeros(())
            with torch.no_grad():
                for (rows,) in BATCHES:
                    whole = module(rows)
                    size = whole.flatten(1).square().sum(1).mean()
                    change = change + (whole - masked(module, {group: (unit,)})(rows)).square().sum() / size
            assert float(found[group][unit]) == pytest.approx(float(change) / 6, rel=1e-3)


@torch.no_grad()
def test_magnitude_is_the_mean_square_of_a_unit_s_weights() -> None:
    module: Any = stack()
    groups = find_groups(module)
    found = {(group.kind, group.path): values for group, values in score(module, groups, "magnitude").items()}
    attention, feed, layer = module.crosses[1].cross_attn, module.crosses[1].mlp, module.crosses[1]
    head = slice(4, 8)
    parts = [attention.q_proj.weight[head], attention.k_proj.weight[head], attention.v_proj.weight[head]]
    parts += [attention.out_proj.weight[:, head]]
    wanted = torch.cat([part.flatten() for part in parts]).square().mean()
    assert float(found["heads", "crosses.1.cross_attn"][1]) == pytest.approx(float(wanted), rel=1e-5)
    channel = torch.cat([feed.fc1.weight[3], feed.fc2.weight[:, 3]]).square().mean()
    assert float(found["channels", "crosses.1.mlp"][3]) == pytest.approx(float(channel), rel=1e-5)
    matrices = torch.cat([p.flatten() for p in layer.parameters() if p.ndim == 2]).square().mean()
    assert float(found["layers", "crosses"][1]) == pytest.approx(float(matrices), rel=1e-5)


@pytest.mark.parametrize("how", ["magnitude", "taylor", "fisher", "ablation"])
def test_a_unit_that_does_nothing_is_the_least_important(how: str) -> None:
    module = stack()
    group = Group("heads", "crosses.0.cross_attn", HEADS)
    idle = masked(module, {group: (2,)})
    found = score(idle, find_groups(idle), how, None if how == "magnitude" else Evidence(BATCHES))
    assert float(found[group][2]) == 0
    assert int(found[group].argmin()) == 2
    assert all(bool((values >= 0).all()) for values in found.values())


def test_every_option_turns_the_scores() -> None:
    module = stack()
    groups = find_groups(module)[:2]
    base = Evidence(BATCHES)
    found = score(module, groups, "fisher", base)
    assert all(torch.equal(found[g], score(module, groups, "fisher", base)[g]) for g in groups)
    others = [
        replace(base, batches=BATCHES[:1]),
        replace(base, loss=squares),
        replace(base, projections=3),
        replace(base, seed=1),
    ]
    for other in others:
        assert not torch.equal(found[groups[1]], score(module, groups, "fisher", other)[groups[1]])
    by_each = [score(module, groups, how, base)[groups[1]] for how in ("taylor", "fisher", "ablation")]
    assert not torch.equal(by_each[0], by_each[1])
    assert not torch.equal(by_each[1], by_each[2])


def test_the_module_is_left_as_it_was() -> None:
    module = stack()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for how in ("taylor", "ablation"):
        score(module, find_groups(module), how, Evidence(BATCHES))
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


NAN = (torch.full((2, 3, WIDTH), float("nan")),)


@pytest.mark.parametrize(
    ("how", "evidence", "kind", "reason"),
    [
        ("size", None, RecipeError, "importance 'size' is unknown; choose one of magnitude, taylor, fisher, ablation"),
        ("magnitude", Evidence(BATCHES), RecipeError, "looks at weights only"),
        ("taylor", None, RecipeError, "'taylor' needs calibration inputs"),
        ("fisher", Evidence([]), RecipeError, "'fisher' needs calibration inputs"),
        ("fisher", Evidence(BATCHES, projections=0), RecipeError, "projections is 0, expected at least 1"),
        ("ablation", Evidence(BATCHES, squares), RecipeError, "leave the loss out"),
        ("taylor", Evidence([BATCHES[0], NAN]), InputError, "on calibration batch 1 the model does not answer"),
        ("ablation", Evidence([NAN]), InputError, "on calibration batch 0 the model does not answer"),
        ("taylor", Evidence(BATCHES, lambda o, _: o[0].sum()), RecipeError, r"has shape \[\], expected .* \[4\]"),
        ("taylor", Evidence(BATCHES, lambda o, _: o[0].sum((1, 2)) / 0), InputError, "is not finite; check the loss"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    how: str, evidence: Evidence | None, kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        score(stack(), find_groups(stack()), how, evidence)


class Framed(nn.Module):
    """Runs its feed-forward on frames of a sample as rows of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = FeedForward(WIDTH, HIDDEN, "gelu")

    def forward(self, x: Tensor) -> Tensor:
        """[batch, frames, n, width] -> the same."""
        return self.mlp(x.flatten(0, 1)).reshape(x.shape)  # type: ignore[no-any-return]


def test_a_block_that_sees_more_rows_than_samples_is_refused() -> None:
    module = Framed()
    with pytest.raises(RecipeError, match="'mlp' ran on 6 rows for 2 samples"):
        score(module, find_groups(module), "taylor", Evidence([(torch.ones(2, 3, 4, WIDTH),)]))


def test_a_module_whose_outputs_depend_on_no_unit_is_refused() -> None:
    module = stack()
    with (
        pytest.raises(RecipeError, match="no output of the module depends on a unit"),
        gated(module, []),
    ):
        score(nn.Flatten(), [], "fisher", Evidence(BATCHES))
