"""CLIP from a checkpoint folder; Hugging Face's `CLIPModel` with the same weights is the oracle."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dual_encoders import (
    END,
    TOKENS,
    build,
    clip,
    exported,
    ids,
    pixels,
    reduce_at,
    siglip,
    without_text,
)
from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

from sanderling import lookup
from sanderling.compile.architecture import Adapted
from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.models import clip as family
from sanderling.compile.settings import section
from sanderling.errors import CheckpointError, InternalError
from sanderling.spec import ArrayInput, Site

# Embeddings have length 1; sums in another order move them by a few units of float32's last place (about 1e-7).
ROUNDING = 1e-5
INNER = (1, 2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Adapted]:
    """Return the oracle and the model adapted from the folder it saved."""
    return saved(clip(), tmp_path_factory.mktemp("clip"))


def saved(model: Any, folder: Path) -> tuple[Any, Adapted]:
    """Return the oracle and the model adapted from the folder it saves."""
    model.save_pretrained(folder)
    return model, adapt_folder(folder)


def texts() -> torch.Tensor:
    """Return four texts that end at different places and are padded behind the end, int64 [4, 11]."""
    given = ids(4, 11)
    for row, end in enumerate((2, 5, 8, 10)):
        given[row, end] = END
        given[row, end + 1 :] = 1
    return given


@torch.no_grad()
def assert_equal_to(model: Any, adapted: Adapted, input_ids: torch.Tensor, side: int = 32) -> None:
    """Compare both embeddings with the oracle's forward pass."""
    wanted = model(input_ids=input_ids, pixel_values=pixels(4, side))
    image, kept = build(adapted, "vision")(pixels(4, side))
    text = build(adapted, "text")(input_ids)
    torch.testing.assert_close(image, wanted.image_embeds, atol=ROUNDING, rtol=0)
    torch.testing.assert_close(text, wanted.text_embeds, atol=ROUNDING, rtol=0)
    assert kept.tolist() == [list(range(kept.shape[1]))] * 4


def test_embeddings_equal_hugging_face(source: tuple[Any, Adapted]) -> None:
    assert_equal_to(*source, texts())


def test_the_mask_changes_nothing_because_padding_is_behind_the_end(source: tuple[Any, Adapted]) -> None:
    model, adapted = source
    given = texts()
    with torch.no_grad():
        masked = model.get_text_features(input_ids=given, attention_mask=(given != 1).long()).pooler_output
        text = build(adapted, "text")(given)
    torch.testing.assert_close(text, torch.nn.functional.normalize(masked), atol=ROUNDING, rtol=0)


OTHER_FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "end token of 2022: the highest id": {"text": {"eos_token_id": 2}},
    "end token that no text has": {"text": {"eos_token_id": 59}},
    "end token outside the vocabulary": {"text": {"eos_token_id": 49407}},
    "padding equal to the end token": {"text": {"eos_token_id": 1}},
    "gelu": {"text": {"hidden_act": "gelu"}, "vision": {"hidden_act": "gelu"}},
    "large epsilon": {"text": {"layer_norm_eps": 0.1}, "vision": {"layer_norm_eps": 0.1}},
    "patches that do not fill the picture": {"vision": {"image_size": 30}},
    "one layer": {"text": {"num_hidden_layers": 1}, "vision": {"num_hidden_layers": 1}},
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_forms_equal_hugging_face(form: str, tmp_path: Path) -> None:
    options = OTHER_FORMS[form]
    model, adapted = saved(clip(**options), tmp_path)
    assert_equal_to(model, adapted, texts(), options.get("vision", {}).get("image_size", 32))


def test_parts_have_every_parameter_of_hugging_face(source: tuple[Any, Adapted]) -> None:
    model, adapted = source
    ours = sum(p.numel() for name in ("vision", "text") for p in build(adapted, name).parameters())
    assert ours == sum(p.numel() for p in model.parameters()) - model.logit_scale.numel()


def test_spec_names_components_levers_and_sites(source: tuple[Any, Adapted]) -> None:
    spec = source[1].spec
    assert [c.name for c in spec.components] == ["vision", "text"]
    assert [t.name for c in spec.components for t in c.inputs] == ["pixel_values", "input_ids"]
    assert spec.outputs == ("image_embeddings", "text_embeddings", "image_kept")
    assert (spec.lever("tokens.image").minimum, spec.lever("tokens.image").maximum) == (1, TOKENS)
    layers = [(site.kind, site.layer) for site in spec.sites]
    assert layers == [("input", 0), *(("inner", layer) for layer in INNER)]
    assert spec.sites[0] == Site("vision", "tokens.image", "input", 0, "image_kept")
    assert spec.inputs[1] == ArrayInput("input_ids", "int64", ("batch", "tokens"))


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
    assert all(row == sorted(set(row)) and row[0] >= 0 and row[-1] < TOKENS for row in kept.tolist())
    assert float((fewer - full).abs().max()) > 1e-2


def test_modules_share_their_weights_and_start_in_eval_mode(source: tuple[Any, Adapted]) -> None:
    one, two = build(source[1], "vision"), build(source[1], "vision", reduce_at("grid", 0))
    assert not one.training
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)


def test_examples_run_and_probe_the_number_of_heads(source: tuple[Any, Adapted]) -> None:
    for part in source[1].parts:
        assert part.bound == 1e-4
        assert [tensor.shape[0] for tensor in part.example] == [2]
        build(source[1], part.component)(*part.example)
    # The class token is the fourth of 4 tokens over 4 heads.
    assert source[1].parts[0].probe == (3,)


def test_text_has_no_site(source: tuple[Any, Adapted]) -> None:
    with pytest.raises(InternalError, match="no site for grid@0"):
        build(source[1], "text", reduce_at("grid", 0))


def test_exported_graph_equals_eager_at_any_number_of_tokens(tmp_path: Path) -> None:
    _, adapted = saved(clip(vision={"num_hidden_layers": 2}), tmp_path)
    part = build(adapted, "vision", reduce_at("saliency", 1))
    graph = exported(adapted, "vision", part, {"tokens.image": 9})
    for keep in (TOKENS, 15, 9, 3, 1):
        with torch.no_grad():
            wanted, wanted_kept = part(pixels(), torch.tensor(keep))
        came, kept = graph(pixels(), torch.tensor(keep))
        np.testing.assert_allclose(came, wanted.numpy(), atol=ROUNDING, rtol=0)
        np.testing.assert_array_equal(kept, wanted_kept.numpy())


def test_exported_text_equals_eager_at_any_length(tmp_path: Path) -> None:
    _, adapted = saved(clip(text={"num_hidden_layers": 1}, vision={"num_hidden_layers": 1}), tmp_path)
    part = build(adapted, "text")
    graph = exported(adapted, "text", part, {})
    for given in (texts(), texts()[:1], texts()[:, :6], texts()[1:2, :3]):
        with torch.no_grad():
            wanted = part(given).numpy()
        np.testing.assert_allclose(graph(given)[0], wanted, atol=ROUNDING, rtol=0)


def test_a_neighbour_family_is_refused(tmp_path: Path) -> None:
    clip().save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_bytes()
    siglip().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(config)
    with pytest.raises(CheckpointError, match=r"lack \d+ tensors .*class_embedding.*nothing uses: logit_bias"):
        adapt_folder(tmp_path)


BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "width that heads do not divide": (
        {"vision_config": {"hidden_size": 30, "num_attention_heads": 4}},
        "num_attention_heads is 4, expected a divisor of hidden_size, 30",
    ),
    "no layers": ({"text_config": {"num_hidden_layers": 0}}, "text_config.num_hidden_layers is 0, expected a whole"),
    "unknown activation": ({"vision_config": {"hidden_act": "swish"}}, "is 'swish', expected one of gelu, "),
    "two end tokens": ({"text_config": {"eos_token_id": [1, 2]}}, r"eos_token_id is \[1, 2\], expected one token id"),
    "four channels": ({"vision_config": {"num_channels": 4}}, "num_channels is 4, expected 3"),
    "not a square": ({"vision_config": {"image_size": [32, 48]}}, r"image_size is \[32, 48\], expected a whole number"),
    "epsilon of zero": ({"vision_config": {"layer_norm_eps": 0}}, "layer_norm_eps is 0, expected a positive number"),
    "section of another type": ({"vision_config": 3}, "vision_config is 3, expected an object"),
    "no embedding": ({"projection_dim": None}, "projection_dim is None, expected a whole number"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configurations_are_refused(case: str, tmp_path: Path) -> None:
    config, message = BAD_CONFIGS[case]
    with pytest.raises(CheckpointError, match=message):
        lookup.find("architecture", "clip").adapt(tmp_path, {"model_type": "clip", **config})


def test_defaults_are_those_of_the_published_model() -> None:
    for ours, theirs in ((family._TEXT, CLIPTextConfig()), (family._VISION, CLIPVisionConfig())):
        assert ours == {key: getattr(theirs, key) for key in ours}


def test_second_sections_of_2022_win_with_their_defaults() -> None:
    given: dict[str, Any] = {
        "text_config": {"hidden_size": 8, "eos_token_id": 2},
        "text_config_dict": {"hidden_size": 16},
    }
    theirs = CLIPConfig(**copy.deepcopy(given)).text_config
    ours = section(given, "text_config", {"hidden_size": 512, "eos_token_id": 49407})
    assert ours.values == {"hidden_size": theirs.hidden_size, "eos_token_id": theirs.eos_token_id}
