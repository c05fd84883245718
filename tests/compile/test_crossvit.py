"""CrossViT from the folder form; oracles are Hugging Face's ViT layer, torch's attention and the published sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from dual_encoders import build, exported, reduce_at
from multiscale import CROSSVIT, CROSSVIT_PUBLISHED, DAGGER, crossvit_weights, parameters_of, write_folder
from torch import Tensor
from torch.nn import functional
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTLayer

from sanderling.compile.architecture import Adapted
from sanderling.compile.blocks.multiscale import Branch, Fusion, Resize
from sanderling.compile.blocks.vision import VisionConfig
from sanderling.compile.cache import Cache
from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.export import export
from sanderling.compile.flops import multiply_adds
from sanderling.compile.models.crossvit import builders, read
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import Recipe
from sanderling.errors import CheckpointError, InternalError
from sanderling.session import load
from sanderling.targets.rules.tensorrt import refusals

# Scores are of size 1; sums in another order move them by a few units of float32's last place (about 1e-7).
ROUNDING = 1e-5


@pytest.fixture(scope="module", params=["patches", "stem"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Adapted]:
    """Return a configuration and the model adapted from its folder."""
    config = CROSSVIT if request.param == "patches" else DAGGER
    return config, adapt_folder(write_folder(tmp_path_factory.mktemp("crossvit"), config, crossvit_weights(config)))


def pictures(config: dict[str, Any], batch: int = 2) -> Tensor:
    """Return seeded pictures of the model's size."""
    side = config["image_size"][0]
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(5))


def scores(adapted: Adapted, pixels: Tensor) -> Tensor:
    """Return the whole model's answer, part by part."""
    small, large = build(adapted, "small")(pixels), build(adapted, "large")(pixels)
    out: Tensor = build(adapted, "fusion")(*small[:2], *large[:2])
    return out


def oracle(config: dict[str, Any], pixels: Tensor) -> Tensor:
    """Return the answer by the official order of work, on layers nobody here wrote, from the official tensors."""
    w = crossvit_weights(config)
    rows = [_embedded(config, w, pixels, b) for b in (0, 1)]
    for k, depth in enumerate(config["depth"]):
        for b in (0, 1):
            for number in range(depth[b]):
                rows[b] = _vit_layer(config, w, f"blocks.{k}.blocks.{b}.{number}", b)(rows[b])
        rows = [_visited(config, w, f"blocks.{k}", rows, b) for b in (0, 1)]
    ends = [_norm(w, f"norm.{b}", rows[b])[:, 0] for b in (0, 1)]
    return torch.stack([_linear(w, f"head.{b}", ends[b]) for b in (0, 1)]).mean(0)


def _embedded(config: dict[str, Any], w: dict[str, Tensor], pixels: Tensor, b: int) -> Tensor:
    side, at = config["image_size"][b], f"patch_embed.{b}.proj"
    x = functional.interpolate(pixels, (side, side), mode="bicubic") if side != pixels.shape[-1] else pixels
    if config.get("multi_conv"):
        for number, (stride, padding) in enumerate(((4, 3), (3, 0), (1, 1)) if b == 0 else ((4, 3), (2, 1), (2, 1))):
            x = functional.relu(x) if number else x
            weight, bias = (w[f"{at}.{2 * number}.{kind}"] for kind in ("weight", "bias"))
            x = functional.conv2d(x, weight, bias, stride, padding)
    else:
        x = functional.conv2d(x, w[f"{at}.weight"], w[f"{at}.bias"], config["patch_size"][b])
    first = w[f"cls_token.{b}"].expand(len(x), -1, -1)
    return torch.cat([first, x.flatten(2).transpose(1, 2)], dim=1) + w[f"pos_embed.{b}"]


def _vit_layer(config: dict[str, Any], w: dict[str, Tensor], at: str, b: int) -> ViTLayer:
    width = config["embed_dim"][b]
    sizes = {"hidden_size": width, "intermediate_size": width * config["mlp_ratio"][b], "layer_norm_eps": 1e-6}
    layer = ViTLayer(ViTConfig(num_attention_heads=config["num_heads"][b], **sizes)).eval()
    official = [
        f"{at}.{p}.{k}" for p in ("norm1", "norm2", "mlp.fc1", "mlp.fc2", "attn.proj") for k in ("weight", "bias")
    ]
    given = [w[name] for name in official]
    given += [part for kind in ("weight", "bias") for part in w[f"{at}.attn.qkv.{kind}"].chunk(3)]
    ours = _vit_names(layer)
    layer.load_state_dict(dict(zip(ours, given, strict=True)))
    return layer


def _vit_names(layer: ViTLayer) -> list[str]:
    names = list(layer.state_dict())

    def of(*words: str) -> str:
        found = (n for n in names if any(word in n for word in words[:-1]) and n.endswith(words[-1]))
        return str(next(found))

    places = (("layernorm_before",), ("layernorm_after",), ("intermediate.dense", "fc1"))
    outs = (("layer.output.dense", "mlp.fc2"), ("attention.output.dense", "o_proj"))
    kinds = ("weight", "bias")
    ordered = [of(*place, kind) for place in places for kind in kinds]
    second = [n for n in names if n.startswith("output.dense") or n.startswith("mlp.fc2")]
    ordered += sorted(second, reverse=True)
    ordered += [of(*outs[1], kind) for kind in kinds]
    return ordered + [of(p, f"{p[0]}_proj", k) for k in kinds for p in ("query", "key", "value")]


def _visited(config: dict[str, Any], w: dict[str, Tensor], at: str, rows: list[Tensor], b: int) -> Tensor:
    own, other = rows[b], rows[1 - b]
    token = _linear(w, f"{at}.projs.{b}.2", functional.gelu(_norm(w, f"{at}.projs.{b}.0", own[:, :1])))
    mixed = torch.cat([token, other[:, 1:]], dim=1)
    normed, fusion = _norm(w, f"{at}.fusion.{b}.norm1", mixed), f"{at}.fusion.{b}.attn"
    attention = torch.nn.MultiheadAttention(other.shape[-1], config["num_heads"][1 - b], batch_first=True).eval()
    fused = {k: torch.cat([w[f"{fusion}.w{p}.{k}"] for p in "qkv"]) for k in ("weight", "bias")}
    attention.load_state_dict(
        {
            "in_proj_weight": fused["weight"],
            "in_proj_bias": fused["bias"],
            "out_proj.weight": w[f"{fusion}.proj.weight"],
            "out_proj.bias": w[f"{fusion}.proj.bias"],
        }
    )
    seen = token + attention(normed[:, :1], normed, normed)[0]
    back = f"{at}.revert_projs.{b}"
    reverted = _linear(w, f"{back}.2", functional.gelu(_norm(w, f"{back}.0", seen)))
    return torch.cat([reverted, own[:, 1:]], dim=1)


def _norm(w: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], w[f"{at}.weight"], w[f"{at}.bias"], 1e-6)


def _linear(w: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    return functional.linear(x, w[f"{at}.weight"], w[f"{at}.bias"])


@torch.no_grad()
def test_scores_equal_the_official_order_of_work(source: tuple[dict[str, Any], Adapted]) -> None:
    config, adapted = source
    pixels = pictures(config)
    torch.testing.assert_close(scores(adapted, pixels), oracle(config, pixels), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("variant", CROSSVIT_PUBLISHED)
def test_parameters_and_multiply_adds_are_as_published(variant: str) -> None:
    config, millions, billions = CROSSVIT_PUBLISHED[variant]
    sizes = read(config)
    made = builders(sizes)
    assert parameters_of(made, tuple(made)) / 1e6 == pytest.approx(millions, abs=6e-4)
    if variant in ("tiny", "9 dagger"):  # one of either form: running the large ones takes long
        assert _multiply_adds(made, sizes.side) / 1e9 == pytest.approx(billions, rel=0.02)


def _multiply_adds(made: Any, side: int) -> int:
    with torch.device("meta"):
        small, large, fusion = (made[name](None).eval() for name in ("small", "large", "fusion"))
        pixels = torch.empty(1, 3, side, side)
        resized = torch.empty(1, 3, large.encoder.config.image_size, large.encoder.config.image_size)
        inner = [torch.empty(1, 1 + b.encoder.config.tokens, b.encoder.config.width) for b in (small, large)]
        sizes = [torch.empty(1, rows.shape[1]) for rows in inner]
    # The published figure leaves the resizing out.
    large.resize = torch.nn.Identity()
    total = multiply_adds(small, (pixels,)) + multiply_adds(large, (resized,))
    return total + multiply_adds(fusion, (inner[0], sizes[0], inner[1], sizes[1]))


@pytest.mark.parametrize(("side", "to"), [(240, 224), (24, 20)])
def test_resizing_equals_torch(side: int, to: int) -> None:
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    wanted = functional.interpolate(pixels, (to, to), mode="bicubic")
    torch.testing.assert_close(Resize(side, to)(pixels), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("component", "reducer"), [("small", "saliency"), ("large", "merge"), ("large", "random")])
@torch.no_grad()
def test_either_branch_reduces_by_itself_and_all_is_the_identity(
    source: tuple[dict[str, Any], Adapted], component: str, reducer: str
) -> None:
    config, adapted = source
    pixels = pictures(config)
    full = build(adapted, component)(pixels)
    part = build(adapted, component, reduce_at(reducer, 0))
    most = adapted.spec.lever(f"tokens.image_{component}").maximum
    torch.testing.assert_close(part(pixels, torch.tensor(most))[0], full[0], atol=ROUNDING, rtol=0)
    rows, sizes, kept = part(pixels, torch.tensor(3))
    assert (rows.shape[1], sizes.shape[1], kept.shape[1]) == (4, 4, 3)
    others = build(adapted, "large" if component == "small" else "small")(pixels)
    pair = (rows, sizes, *others[:2]) if component == "small" else (*others[:2], rows, sizes)
    assert float((build(adapted, "fusion")(*pair) - scores(adapted, pixels)).abs().max()) > 1e-3


@torch.no_grad()
def test_a_merged_token_counts_as_the_tokens_it_stands_for() -> None:
    """A token of size 2 is seen as two equal tokens are, in every layer and exchange behind the branches."""
    sizes = [VisionConfig(8, 4, w, 1, 2, 2 * w, class_token=True, post_norm=False) for w in (8, 12)]
    torch.manual_seed(0)
    fusion = Fusion(((replace(sizes[0], layers=0), replace(sizes[1], layers=0)), (sizes[0], sizes[1])), 5).eval()
    small, large = torch.randn(1, 3, 8), torch.randn(1, 4, 12)
    twice = torch.cat([large, large[:, -1:]], dim=1)
    one = fusion(small, torch.ones(1, 3), large, torch.tensor([[1.0, 1.0, 1.0, 2.0]]))
    two = fusion(small, torch.ones(1, 3), twice, torch.ones(1, 5))
    torch.testing.assert_close(one, two, atol=ROUNDING, rtol=0)
    assert float((one - fusion(small, torch.ones(1, 3), large, torch.ones(1, 4))).abs().max()) > 1e-4


def test_graphs_are_what_tensorrt_takes(source: tuple[dict[str, Any], Adapted]) -> None:
    config, adapted = source
    module = build(adapted, "large", reduce_at("saliency", 0))
    graph = exported(adapted, "large", module, {"tokens.image_large": 3})
    pixels = pictures(config)
    for keep in (2, 4):
        with torch.no_grad():
            wanted = module(pixels, torch.tensor(keep))
        np.testing.assert_allclose(graph(pixels, torch.tensor(keep))[0], wanted[0].numpy(), atol=ROUNDING)
    for part, at in zip(adapted.parts, (reduce_at("merge", 0), None, None), strict=True):
        levers = {} if at is None else {"tokens.image_small": 3}
        component = adapted.spec.component(part.component)
        model = export(build(adapted, part.component, at), component, part.example, levers)
        assert refusals(onnx.load_from_string(model)) == ()


def test_compiles_and_moves_both_levers(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "crossvit", CROSSVIT, crossvit_weights(CROSSVIT))
    passes = (("reduce", Reduce(reducers=("saliency",), fractions=(0.5,))),)
    recipe = Recipe(passes=passes, targets=("onnxruntime", "openvino"), threads=1)
    bundle = compile_model(folder, tmp_path / "c.sand", recipe=recipe, cache=Cache(tmp_path / "cache"))
    picture = np.random.default_rng(0).integers(0, 255, (24, 24, 3)).astype(np.uint8)
    with load(bundle) as session:
        drift = session.measured.drift
        assert {d.target for d in drift} == {"onnxruntime", "openvino"}
        assert max(d.max_abs for d in drift) < ROUNDING
        graphs = {"small": "saliency@0", "large": "saliency@0"}
        plan = session.at({"tokens.image_small": 8, "tokens.image_large": 5}, graphs)
        answer = session.run({"image": picture}, plan=plan)
    assert answer.outputs["image_small_kept"].shape == (1, 8)
    assert answer.outputs["image_large_kept"].shape == (1, 5)
    assert answer.receipt.kept == {"tokens.image_small": (8, 16), "tokens.image_large": (5, 16)}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "depth": ({"depth": [[1, 2, 1]]}, "depth is .* and 0 for one exchange"),
    "no layer in a branch": ({"depth": [[0, 2, 0]]}, "depth is"),
    "patches that do not tile": ({"image_size": [25, 20]}, r"image_size is .* multiples of patch_size"),
    "one size": ({"image_size": [24]}, "image_size is .* a list of 2 whole numbers"),
    "heads": ({"num_heads": [5, 3]}, "embed_dim is .* multiples of num_heads"),
    "ratio": ({"mlp_ratio": [2, 0, 1]}, "mlp_ratio is .* 3 positive numbers"),
    "stem of unknown patches": ({"multi_conv": True}, "patch_size is .* because multi_conv is true"),
    "stem": ({"multi_conv": 1}, "multi_conv is 1, expected true or false"),
    "wider than the weights": ({"embed_dim": [32, 24]}, "has shape"),
    "more blocks than the weights": ({"depth": [[1, 2, 0], [1, 1, 0], [1, 1, 0]]}, "lack"),
    "fewer blocks than the weights": ({"depth": [[1, 2, 0]]}, "that nothing uses"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_checkpoints_are_refused(what: str, tmp_path: Path) -> None:
    changed, message = BAD[what]
    folder = write_folder(tmp_path, {**CROSSVIT, **changed}, crossvit_weights(CROSSVIT))
    with pytest.raises(CheckpointError, match=message):
        adapt_folder(folder)


def test_a_fused_projection_of_another_height_is_refused(tmp_path: Path) -> None:
    weights = crossvit_weights(CROSSVIT)
    name = "blocks.0.blocks.0.0.attn.qkv.weight"
    with pytest.raises(CheckpointError, match="query, key and value"):
        adapt_folder(write_folder(tmp_path, CROSSVIT, {**weights, name: weights[name][:-1]}))


def test_fusion_has_no_site() -> None:
    made = builders(read(CROSSVIT))
    assert isinstance(made["small"](None), Branch)
    with pytest.raises(InternalError, match="fusion component has no site"):
        made["fusion"](reduce_at("grid", 0))
