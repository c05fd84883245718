"""SigLIP from a checkpoint folder; Hugging Face's `SiglipModel` with the same weights is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dual_encoders import TOKENS, build, clip, exported, ids, pixels, reduce_at, siglip, without_text
from safetensors.torch import load_file, save_file
from transformers import SiglipTextConfig, SiglipVisionConfig

from sanderling import lookup
from sanderling.compile.architecture import Adapted
from sanderling.compile.blocks.attention import size_bias
from sanderling.compile.blocks.pooling import AttentionPool
from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.models import siglip as family
from sanderling.errors import CheckpointError

# Embeddings have length 1; sums in another order move them by a few units of float32's last place (about 1e-7).
ROUNDING = 1e-5
INNER = (1, 2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Adapted]:
    """Return the oracle and the model adapted from the folder it saved."""
    return saved(siglip(), tmp_path_factory.mktemp("siglip"))


def saved(model: Any, folder: Path) -> tuple[Any, Adapted]:
    """Return the oracle and the model adapted from the folder it saves."""
    model.save_pretrained(folder)
    return model, adapt_folder(folder)


@torch.no_grad()
def assert_equal_to(model: Any, adapted: Adapted, tokens: int = 11, side: int = 32) -> None:
    """Compare both embeddings with the oracle's forward pass."""
    wanted = model(input_ids=ids(4, tokens), pixel_values=pixels(4, side))
    image, kept = build(adapted, "vision")(pixels(4, side))
    text = build(adapted, "text")(ids(4, tokens))
    torch.testing.assert_close(image, wanted.image_embeds, atol=ROUNDING, rtol=0)
    torch.testing.assert_close(text, wanted.text_embeds, atol=ROUNDING, rtol=0)
    assert kept.tolist() == [list(range(kept.shape[1]))] * 4


@pytest.mark.parametrize("tokens", [11, 4, 1])
def test_embeddings_equal_hugging_face(source: tuple[Any, Adapted], tokens: int) -> None:
    assert_equal_to(*source, tokens)


OTHER_FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "gelu": {"text": {"hidden_act": "gelu"}, "vision": {"hidden_act": "gelu"}},
    "large epsilon": {"text": {"layer_norm_eps": 0.1}, "vision": {"layer_norm_eps": 0.1}},
    "patches that do not fill the picture": {"vision": {"image_size": 30}},
    "text as wide as the picture": {"text": {"hidden_size": 32, "num_attention_heads": 2, "projection_size": None}},
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_forms_equal_hugging_face(form: str, tmp_path: Path) -> None:
    options = OTHER_FORMS[form]
    model, adapted = saved(siglip(**options), tmp_path)
    assert_equal_to(model, adapted, side=options.get("vision", {}).get("image_size", 32))


def test_parts_have_every_parameter_of_hugging_face(source: tuple[Any, Adapted]) -> None:
    model, adapted = source
    ours = sum(p.numel() for name in ("vision", "text") for p in build(adapted, name).parameters())
    scales = model.logit_scale.numel() + model.logit_bias.numel()
    assert ours == sum(p.numel() for p in model.parameters()) - scales


@pytest.mark.parametrize("layer", [0, *INNER])
@pytest.mark.parametrize("reducer", without_text())
@torch.no_grad()
def test_reducers_keep_all_or_fewer(source: tuple[Any, Adapted], reducer: str, layer: int) -> None:
    full, _ = build(source[1], "vision")(pixels())
    part = build(source[1], "vision", reduce_at(reducer, layer))
    same, kept = part(pixels(), torch.tensor(TOKENS))
    torch.testing.assert_close(same, full, atol=ROUNDING, rtol=0)
    assert kept.tolist() == [list(range(TOKENS))] * 3
    fewer, kept = part(pixels(), torch.tensor(5))
    assert kept.shape == (3, 5)
    assert float((fewer - full).abs().max()) > 1e-2


@torch.no_grad()
def test_pooling_counts_a_merged_token_as_often_as_it_stands_for() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(width=16, heads=2, hidden=20, activation="gelu", eps=1e-6).eval()
    one, other = torch.randn(2, 1, 1, 16) * 3
    each = pool(torch.cat([one, one, one, other], dim=1))
    merged = torch.cat([one, other], dim=1)
    torch.testing.assert_close(pool(merged, size_bias(torch.tensor([[3.0, 1.0]]))), each, atol=ROUNDING, rtol=0)
    assert float((pool(merged) - each).abs().max()) > 1e-2


@torch.no_grad()
def test_merging_equal_patches_changes_nothing(source: tuple[Any, Adapted]) -> None:
    """Positions apart, equal tokens merge without loss when sizes reach every attention and the pooling."""
    part = build(source[1], "vision", reduce_at("merge", 0))
    positions = part.get_parameter("encoder.position_embedding")
    before = positions.data.clone()
    try:
        positions.data.copy_(before[:1].expand_as(before))
        tile = pixels(1)[:, :, :8, :8].repeat(1, 1, 4, 4)
        all_tokens, _ = part(tile, torch.tensor(TOKENS))
        one_token, _ = part(tile, torch.tensor(1))
        torch.testing.assert_close(one_token, all_tokens, atol=ROUNDING, rtol=0)
    finally:
        positions.data.copy_(before)


def test_spec_and_examples(source: tuple[Any, Adapted]) -> None:
    spec = source[1].spec
    assert spec.outputs == ("image_embeddings", "text_embeddings", "image_kept")
    assert [(site.kind, site.layer) for site in spec.sites] == [("input", 0), ("inner", 1), ("inner", 2)]
    assert [part.probe for part in source[1].parts] == [(4,), ()]
    for part in source[1].parts:
        build(source[1], part.component)(*part.example)


def test_exported_graph_equals_eager_at_any_number_of_tokens(tmp_path: Path) -> None:
    _, adapted = saved(siglip(vision={"num_hidden_layers": 2}), tmp_path)
    part = build(adapted, "vision", reduce_at("saliency", 1))
    graph = exported(adapted, "vision", part, {"tokens.image": 9})
    for keep in (TOKENS, 15, 9, 4, 1):
        with torch.no_grad():
            wanted, wanted_kept = part(pixels(), torch.tensor(keep))
        came, kept = graph(pixels(), torch.tensor(keep))
        np.testing.assert_allclose(came, wanted.numpy(), atol=ROUNDING, rtol=0)
        np.testing.assert_array_equal(kept, wanted_kept.numpy())


def test_a_neighbour_family_is_refused(tmp_path: Path) -> None:
    siglip().save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_bytes()
    clip().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(config)
    with pytest.raises(CheckpointError, match=r"lack \d+ tensors .*nothing uses: text_projection.weight"):
        adapt_folder(tmp_path)


def test_a_fused_projection_of_another_shape_is_refused(tmp_path: Path) -> None:
    siglip().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["vision_model.head.attention.in_proj_weight"] = torch.ones(64, 32)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"in_proj_weight' has shape \[64, 32\] .*config.json gives \[96, 32\]"):
        adapt_folder(tmp_path)


BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "no picture embedding": ({"vision_config": {"vision_use_head": False}}, "vision_use_head is false"),
    "embeddings of two widths": (
        {"text_config": {"projection_size": 20}, "vision_config": {"hidden_size": 48}},
        r"embedded in 20 numbers .* pictures in 48",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configurations_are_refused(case: str, tmp_path: Path) -> None:
    config, message = BAD_CONFIGS[case]
    with pytest.raises(CheckpointError, match=message):
        lookup.find("architecture", "siglip").adapt(tmp_path, {"model_type": "siglip", **config})


def test_defaults_are_those_of_the_published_model() -> None:
    for ours, theirs in ((family._TEXT, SiglipTextConfig()), (family._VISION, SiglipVisionConfig())):
        assert ours == {key: getattr(theirs, key) for key in ours}
