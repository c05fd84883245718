"""BiFormer from the folder form; oracles are brute force in NumPy, torch's dense attention and the published sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from dual_encoders import Graph, build, reduce_at
from multiscale import BIFORMER, BIFORMER_PUBLISHED, BIFORMER_ROUTED, biformer_weights, write_folder
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sanderling.compile.architecture import Adapted
from sanderling.compile.blocks.routing import (
    FrozenBatchNorm,
    RoutedAttention,
    WholeAttention,
    from_regions,
    to_regions,
)
from sanderling.compile.cache import Cache
from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.export import export
from sanderling.compile.flops import multiply_adds, parameters
from sanderling.compile.models.biformer import BiFormer, read
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import Recipe
from sanderling.errors import CheckpointError
from sanderling.session import load
from sanderling.targets.rules.tensorrt import refusals

# Scores are of size 10; sums in another order move them by a few units of float32's last place (about 1e-6).
ROUNDING = 5e-5


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    """Return the model adapted from its folder."""
    return adapt_folder(write_folder(tmp_path_factory.mktemp("biformer"), BIFORMER, biformer_weights(BIFORMER)))


def routed(most: int, reducer: str | None = None, seed: int = 0) -> RoutedAttention:
    """Return an attention of 8 channels and 2 heads over 3 x 3 regions."""
    torch.manual_seed(seed)
    module = RoutedAttention(8, 2, 3, most, None if reducer is None else reduce_at(reducer, 1).reducer)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def brute_force(module: RoutedAttention, x: Tensor, look: int) -> NDArray[np.float64]:
    """Return routed attention place by place, in NumPy, from the paper's equations."""
    w = {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}
    q, k, v = (x.double().numpy() @ w[f"{p}_proj.weight"].T + w[f"{p}_proj.bias"] for p in "qkv")
    batch, height, width, channels = x.shape
    high, wide = height // 3, width // 3
    seen = np.zeros_like(q)
    boxes = [(slice(r * high, r * high + high), slice(c * wide, c * wide + wide)) for r in range(3) for c in range(3)]
    for b in range(batch):
        for box in boxes:
            mean = q[b][box].mean((0, 1))
            match = np.array([mean @ k[b][other].mean((0, 1)) for other in boxes])
            chosen = [boxes[i] for i in np.argsort(-match, kind="stable")[:look]]
            keys, values = (np.concatenate([y[b][o].reshape(-1, channels) for o in chosen]) for y in (k, v))
            for head in (slice(0, 4), slice(4, 8)):
                logits = q[b][box][..., head] @ keys[:, head].T * channels**-0.5
                weights = np.exp(logits - logits.max(-1, keepdims=True))
                seen[b][box][..., head] = (weights / weights.sum(-1, keepdims=True)) @ values[:, head]
    near = np.zeros_like(v)
    padded = np.pad(v, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for dy in range(5):
        for dx in range(5):
            near += padded[:, dy : dy + height, dx : dx + width] * w["lepe.weight"][:, 0, dy, dx]
    answer: NDArray[np.float64] = (seen + near + w["lepe.bias"]) @ w["out_proj.weight"].T + w["out_proj.bias"]
    return answer


def a_map(batch: int = 2) -> Tensor:
    """Return a seeded map of 6 x 9 places and 8 channels."""
    return torch.randn(batch, 6, 9, 8, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("look", [1, 2, 5, 9])
@torch.no_grad()
def test_routed_attention_equals_brute_force(look: int) -> None:
    wanted = brute_force(routed(look), a_map(), look)
    np.testing.assert_allclose(routed(look)(a_map()).numpy(), wanted, atol=1e-5)
    by_lever = routed(9, "saliency")(a_map(), torch.tensor(look))
    np.testing.assert_allclose(by_lever.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("reducer", [None, "random", "merge"])
@torch.no_grad()
def test_looking_at_all_regions_is_dense_attention(reducer: str | None) -> None:
    module = routed(9, reducer)
    x = a_map()
    rows = x.flatten(1, 2)
    q, k, v = (p(rows).unflatten(-1, (2, 4)).transpose(1, 2) for p in (module.q_proj, module.k_proj, module.v_proj))
    dense = functional.scaled_dot_product_attention(q, k, v, scale=8**-0.5).transpose(1, 2).reshape(x.shape)
    near = module.lepe(module.v_proj(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    given = () if reducer is None else (torch.tensor(9),)
    torch.testing.assert_close(module(x, *given), module.out_proj(dense + near), atol=1e-5, rtol=0)


@torch.no_grad()
def test_whole_attention_equals_torch() -> None:
    torch.manual_seed(0)
    module, x = WholeAttention(8, 2).eval(), a_map()
    oracle = nn.MultiheadAttention(8, 2, bias=False, batch_first=True).eval()
    oracle.in_proj_weight.copy_(torch.cat([module.q_proj.weight, module.k_proj.weight, module.v_proj.weight]))
    oracle.out_proj.weight.copy_(torch.eye(8))
    rows = x.flatten(1, 2)
    near = module.lepe(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    wanted = module.out_proj(oracle(rows, rows, rows)[0].reshape(x.shape) + near)
    torch.testing.assert_close(module(x), wanted, atol=1e-5, rtol=0)


@torch.no_grad()
def test_frozen_batch_norm_equals_torch() -> None:
    torch.manual_seed(0)
    oracle, x = nn.BatchNorm2d(4).eval(), torch.randn(2, 4, 3, 5)
    for tensor in (oracle.weight, oracle.bias, oracle.running_mean, oracle.running_var):
        assert tensor is not None
        tensor.copy_(torch.rand(4) + 0.1)
    module = FrozenBatchNorm(4)
    module.load_state_dict({n: t for n, t in oracle.state_dict().items() if n != "num_batches_tracked"})
    torch.testing.assert_close(module(x), oracle(x))


def test_regions_and_back() -> None:
    x = a_map()
    assert torch.equal(to_regions(x, 3)[1, 4], x[1, 2:4, 3:6].flatten(0, 1))
    assert torch.equal(from_regions(to_regions(x, 3), 6, 9, 3), x)


def costs(depth: list[int], widths: list[int], topks: tuple[int, ...]) -> tuple[float, float]:
    """Return millions of parameters and 10^9 multiply-adds, norms counted as the published figures count them.

    Those take 5 operations for a value of a layer norm and 2 for one of a batch norm, which torch's counter leaves out.
    """
    norms = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal norms
        norms += output.numel() * (5 if isinstance(module, nn.LayerNorm) else 2)

    with torch.device("meta"):
        model = BiFormer(read({"depth": depth, "embed_dim": widths, "topks": [*topks, -2]})).eval()
        for module in model.modules():
            if isinstance(module, (nn.LayerNorm, FrozenBatchNorm)):
                module.register_forward_hook(count)
        products = multiply_adds(model, (torch.empty(1, 3, 224, 224),))
    return parameters(model) / 1e6, (products + norms) / 1e9


@pytest.mark.parametrize("variant", BIFORMER_PUBLISHED)
def test_parameters_and_multiply_adds_are_as_published(variant: str) -> None:
    depth, widths, millions, billions = BIFORMER_PUBLISHED[variant]
    assert costs(depth, widths, (1, 4, 16)) == pytest.approx((millions, billions), abs=1e-3)


@pytest.mark.parametrize("topks", BIFORMER_ROUTED)
def test_multiply_adds_fall_with_the_regions_as_published(topks: tuple[int, int, int]) -> None:
    depth, widths, *_ = BIFORMER_PUBLISHED["tiny"]
    assert costs(depth, widths, topks)[1] == pytest.approx(BIFORMER_ROUTED[topks], abs=1e-3)


@torch.no_grad()
def test_the_lever_moves_all_stages_on_unchanged_weights(adapted: Adapted, tmp_path: Path) -> None:
    pixels = adapted.parts[0].example[0]
    full, lever = build(adapted, "vision")(pixels), build(adapted, "vision", reduce_at("saliency", 1))
    torch.testing.assert_close(lever(pixels, torch.tensor(8)), full, atol=ROUNDING, rtol=0)
    fewer = adapt_folder(write_folder(tmp_path, {**BIFORMER, "topks": [1, 2, 5, -2]}, biformer_weights(BIFORMER)))
    wanted = build(fewer, "vision")(pixels)
    torch.testing.assert_close(lever(pixels, torch.tensor(5)), wanted, atol=ROUNDING, rtol=0)
    assert float((wanted - full).abs().max()) > 0.1


@pytest.mark.parametrize("reducer", ["saliency", "merge"])
def test_graphs_agree_and_are_what_tensorrt_takes(adapted: Adapted, reducer: str) -> None:
    part = adapted.parts[0]
    module = build(adapted, "vision", reduce_at(reducer, 1))
    model = export(module, adapted.spec.component("vision"), part.example, {"regions": 4})
    assert refusals(onnx.load_from_string(model)) == ()
    for regions in (1, 3, 8):
        with torch.no_grad():
            wanted = module(*part.example, torch.tensor(regions))
        answer = Graph(model)(*part.example, torch.tensor(regions))
        np.testing.assert_allclose(answer[0], wanted.numpy(), atol=ROUNDING)


def test_compiles_and_moves_the_lever(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "biformer", BIFORMER, biformer_weights(BIFORMER))
    passes = (("reduce", Reduce(reducers=("saliency",), fractions=(0.5,))),)
    recipe = Recipe(passes=passes, targets=("onnxruntime", "openvino"), threads=1)
    bundle = compile_model(folder, tmp_path / "b.sand", recipe=recipe, cache=Cache(tmp_path / "cache"))
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    with load(bundle) as session:
        drift = session.measured.drift
        assert {(d.target, d.settings["regions"]) for d in drift} >= {
            (target, regions) for target in ("onnxruntime", "openvino") for regions in (4, 8)
        }
        assert max(d.max_abs for d in drift) < ROUNDING
        answer = session.run({"image": picture}, plan=session.at({"regions": 2}, {"vision": "saliency@1"}))
    assert answer.receipt.kept == {"regions": (2, 8)}
    assert answer.receipt.reduced[0].lever == "regions"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "regions that do not tile": ({"n_win": 3}, "image_size is 64, expected a multiple of 32"),
    "more regions than there are": ({"topks": [1, 4, 17, -2]}, "topks is .* 1 to 16, and -2"),
    "routed last stage": ({"topks": [1, 4, 8, 1]}, "topks is"),
    "heads": ({"head_dim": 5}, "embed_dim is .* multiples of head_dim, 5"),
    "three stages": ({"depth": [1, 1, 2]}, "depth is .* a list of 4"),
    "wider than the weights": ({"embed_dim": [16, 16, 16, 32]}, "has shape"),
    "deeper than the weights": ({"depth": [1, 1, 3, 1]}, "lack"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_checkpoints_are_refused(what: str, tmp_path: Path) -> None:
    changed, message = BAD[what]
    folder = write_folder(tmp_path, {**BIFORMER, **changed}, biformer_weights(BIFORMER))
    with pytest.raises(CheckpointError, match=message):
        adapt_folder(folder)


def test_weights_of_a_neighbour_family_are_refused(tmp_path: Path) -> None:
    weights = {"encoder.layer.0.weight": torch.zeros(2, 2)}
    with pytest.raises(CheckpointError, match="lack"):
        adapt_folder(write_folder(tmp_path, BIFORMER, weights))
