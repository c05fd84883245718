"""Video checkpoints that are refused: what came, what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from videos import FAMILIES, classifier

from sanderling import lookup
from sanderling.compile.checkpoint import Weights, adapt_folder
from sanderling.errors import CheckpointError


def spoilt(folder: Path, family: str, change: Callable[[Weights], Any]) -> Path:
    """Return a folder whose weights were changed."""
    classifier(family).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    return folder


PATCHES = "embeddings.patch_embeddings.projection.weight"
QUERY = "encoder.layer.1.attention.attention.query"
FUSED = "encoder.layer.1.attention.attention.qkv.weight"


@pytest.mark.parametrize(
    ("family", "tensor"),
    [
        ("videomae", f"{QUERY}.weight"),
        ("videomae", "encoder.layer.0.attention.attention.q_bias"),
        ("vivit", f"{QUERY}.bias"),
        ("vivit", "embeddings.cls_token"),
        ("timesformer", "embeddings.time_embeddings"),
        ("timesformer", FUSED),
        ("timesformer", PATCHES),
    ],
)
def test_a_missing_tensor_is_named(family: str, tensor: str, tmp_path: Path) -> None:
    folder = spoilt(tmp_path, family, lambda weights: weights.pop(f"{family}.{tensor}"))
    named = tensor.replace("q_bias", "query.bias").replace("qkv", "query")
    with pytest.raises(CheckpointError, match=rf"lack \d tensors.*{named}"):
        adapt_folder(folder)


@pytest.mark.parametrize(
    ("family", "tensor", "came", "expected"),
    [
        ("videomae", PATCHES, [32, 3, 1, 8, 8], [32, 3, 2, 8, 8]),
        ("videomae", PATCHES, [32, 3, 8, 8], [32, 3, 2, 8, 8]),
        ("vivit", PATCHES, [32, 3, 2, 4, 4], [32, 3, 2, 8, 8]),
        ("vivit", "embeddings.position_embeddings", [1, 9, 32], [17, 32]),
        ("timesformer", PATCHES, [32, 3, 4, 4], [32, 3, 8, 8]),
        ("timesformer", "embeddings.time_embeddings", [1, 8, 32], [6, 32]),
        ("timesformer", FUSED, [64, 32], [96, 32]),
    ],
)
def test_another_shape_is_refused_with_both(
    family: str, tensor: str, came: list[int], expected: list[int], tmp_path: Path
) -> None:
    folder = spoilt(tmp_path, family, lambda weights: weights.update({f"{family}.{tensor}": torch.ones(came)}))
    with pytest.raises(CheckpointError) as refused:
        adapt_folder(folder)
    shown = [n for n in came if n != 1] if "_embeddings" in tensor.rpartition(".")[2] else came
    assert str(shown) in str(refused.value)
    assert str(expected) in str(refused.value)


@pytest.mark.parametrize("other", FAMILIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_neighbour_family_is_refused(family: str, other: str, tmp_path: Path) -> None:
    if family == other:
        return
    classifier(family).save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_bytes()
    classifier(other).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(config)
    with pytest.raises(CheckpointError, match=r"lack \d+ tensors|has shape|no bias there"):
        adapt_folder(tmp_path)


def test_a_bias_that_config_json_denies_is_refused(tmp_path: Path) -> None:
    classifier("vivit").save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"qkv_bias": true', '"qkv_bias": false'))
    with pytest.raises(CheckpointError, match=r"have 'encoder.*bias', but config.json says"):
        adapt_folder(tmp_path)


def test_videomae_that_reads_its_classes_at_one_patch_is_refused(tmp_path: Path) -> None:
    classifier("videomae", use_mean_pooling=False).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="use_mean_pooling is false"):
        adapt_folder(tmp_path)


BAD_CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "fewer frames than one tube": ("videomae", {"num_frames": 1}, "num_frames is 1, fewer than the 2 of one tube"),
    "fewer frames than a tube of three": (
        "vivit",
        {"num_frames": 2, "tubelet_size": [3, 16, 16]},
        "num_frames is 2, fewer than the 3 of one tube",
    ),
    "no frames": ("timesformer", {"num_frames": 0}, "num_frames is 0, expected a whole number from 1"),
    "pictures smaller than a patch": ("videomae", {"image_size": 8}, "image_size is 8, smaller than one patch of 16"),
    "not a square": ("vivit", {"image_size": [32, 48]}, r"image_size is \[32, 48\], expected a whole number"),
    "tubes that are no squares": ("vivit", {"tubelet_size": [2, 16, 8]}, r"tubelet_size is \[2, 16, 8\], expected"),
    "tubes of one number": ("vivit", {"tubelet_size": 2}, r"tubelet_size is 2, expected \[frames, side, side\]"),
    "attention in one": (
        "timesformer",
        {"attention_type": "joint_space_time"},
        "attention_type is 'joint_space_time', expected one of divided_space_time",
    ),
    "unknown activation": ("videomae", {"hidden_act": "swish"}, "hidden_act is 'swish', expected one of gelu"),
    "heads that do not divide": ("vivit", {"num_attention_heads": 5}, "expected a divisor of hidden_size, 768"),
    "grey pictures": ("timesformer", {"num_channels": 1}, "num_channels is 1, expected 3"),
    "labels of another type": ("vivit", {"id2label": 3}, "id2label is 3, expected an object"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configurations_are_refused(case: str, tmp_path: Path) -> None:
    family, config, message = BAD_CONFIGS[case]
    save_file({"unused": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        lookup.find("architecture", family).adapt(tmp_path, {"model_type": family, **config})


def test_another_pooler_is_refused(tmp_path: Path) -> None:
    save_file({"pooler.dense.weight": torch.ones(1, 1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="pooler_act is 'gelu', expected one of tanh"):
        lookup.find("architecture", "vivit").adapt(tmp_path, {"model_type": "vivit", "pooler_act": "gelu"})
