"""Checkpoint folders: what is read, and every way in which one can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dual_encoders import build, clip, ids, pixels
from safetensors.torch import load_file, save_file
from torch import nn

from sanderling.compile.checkpoint import adapt_folder, digest, load, read_config, read_weights
from sanderling.errors import CheckpointError, UnknownNameError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
LOGITS = "vision_model.encoder.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a tiny CLIP."""
    clip().save_pretrained(tmp_path)
    return tmp_path


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors by name, or leave them out where the change is None."""
    weights = {**load_file(folder / SINGLE), **changes}
    save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, folder / SINGLE)


def change_config(folder: Path, **changes: Any) -> None:
    """Replace top-level values of config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def embeddings(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both embeddings of the model in a folder."""
    adapted = adapt_folder(folder)
    with torch.no_grad():
        return build(adapted, "vision")(pixels())[0], build(adapted, "text")(ids(3, 11))


def test_shards_equal_one_file(folder: Path) -> None:
    wanted = embeddings(folder)
    clip().save_pretrained(folder / "sharded", max_shard_size="60kB")
    assert len(list((folder / "sharded").glob("*.safetensors"))) > 2
    came = embeddings(folder / "sharded")
    assert all(torch.equal(a, b) for a, b in zip(came, wanted, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single(folder: Path, dtype: torch.dtype) -> None:
    wanted = {name: tensor.to(dtype) for name, tensor in load_file(folder / SINGLE).items()}
    save_file(wanted, folder / SINGLE)
    came = read_weights(folder)
    assert all(tensor.dtype == torch.float32 for tensor in came.values())
    assert all(torch.equal(came[name], tensor.float()) for name, tensor in wanted.items())


def test_weights_do_not_change_with_the_file(folder: Path) -> None:
    weights = read_weights(folder)
    before = weights[LOGITS].clone()
    with (folder / SINGLE).open("r+b") as file:
        file.seek(-len(file.read()) // 2, 2)
        file.write(bytes(1000))
    assert torch.equal(weights[LOGITS], before)


def test_indices_of_positions_in_old_checkpoints_are_ignored(folder: Path) -> None:
    wanted = embeddings(folder)
    change_weights(folder, **{"text_model.embeddings.position_ids": torch.arange(11)[None]})
    assert torch.equal(embeddings(folder)[0], wanted[0])


def test_digest_follows_every_file_that_decides_the_model(folder: Path) -> None:
    digests = {digest(folder), adapt_folder(folder).source}
    assert len(digests) == 1
    (folder / "README.md").write_text("words")
    assert digest(folder) in digests
    for name in ("config.json", SINGLE, "preprocessor_config.json", "tokenizer.json"):
        path = folder / name
        path.write_bytes((path.read_bytes() if path.is_file() else b"") + b" ")
        assert digest(folder) not in digests
        digests.add(digest(folder))


def test_names_and_values_are_told_apart_in_the_digest(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("same")
    before = digest(folder)
    (folder / "tokenizer.json").rename(folder / "tokenizer_config.json")
    assert digest(folder) != before


def test_unknown_model_type_lists_the_known(folder: Path) -> None:
    change_config(folder, model_type="clap")
    with pytest.raises(
        UnknownNameError, match=r"unknown architecture 'clap'; did you mean 'clip'\? Known: .*clip.*siglip"
    ):
        adapt_folder(folder)


def test_a_model_type_that_looks_like_a_path_imports_nothing(folder: Path) -> None:
    change_config(folder, model_type="..checkpoint")
    with pytest.raises(UnknownNameError):
        adapt_folder(folder)


BAD_CONFIGS = {
    "not JSON": (b"{", r"config.json is not readable JSON"),
    "not text": (b"\xff\xfe\x00", r"config.json is not readable JSON"),
    "a list": (b"[]", r"holds a list, expected a JSON object"),
    "no model_type": (b"{}", r"names no model_type.*Known: .*clip"),
    "model_type of another type": (b'{"model_type": 3}', r"names no model_type"),
    "nested without end": (b"[" * 100_000, r"config.json is not readable JSON"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configurations_are_refused(case: str, folder: Path) -> None:
    content, message = BAD_CONFIGS[case]
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_config(folder)


def test_a_missing_folder_or_file_says_how_to_write_one(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is not a folder.*save_pretrained"):
        read_config(folder / "nowhere")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config.json, only model.safetensors; .*save_pretrained"):
        read_config(folder)


@pytest.mark.parametrize("length", [0, 4, 200, -10], ids=["empty", "no header", "half a header", "cut short"])
def test_damaged_weights_name_the_file(folder: Path, length: int) -> None:
    path = folder / SINGLE
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged or cut short .*copy it again"):
        adapt_folder(folder)


def test_missing_weights_list_what_is_there(folder: Path) -> None:
    (folder / SINGLE).unlink()
    with pytest.raises(CheckpointError, match=r"neither model.safetensors nor .*only config.json; .*save_pretrained"):
        adapt_folder(folder)


def test_a_pickle_is_refused_by_name(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only as pytorch_model.bin, a pickle.*save_pretrained"):
        adapt_folder(folder)


BAD_INDICES: dict[str, tuple[Any, str]] = {
    "no map": ({}, "has no weight_map"),
    "empty map": ({"weight_map": {}}, "lists nothing, not found"),
    "a missing shard": ({"weight_map": {"a": "shard-2.safetensors"}}, "lists shard-2.safetensors, not found"),
    "a path that escapes": ({"weight_map": {"a": "../other/shard.safetensors"}}, r"lists ../other/shard.safetensors"),
    "a tensor no shard has": ({"weight_map": {"a": "shard.safetensors"}}, "lists a, which no shard holds"),
    "another type": ({"weight_map": {"a": 3}}, "has no weight_map"),
}


@pytest.mark.parametrize("case", BAD_INDICES)
def test_bad_indices_are_refused(case: str, folder: Path) -> None:
    index, message = BAD_INDICES[case]
    (folder / "other").mkdir()
    (folder / SINGLE).rename(folder / "shard.safetensors")
    (folder / "inner").mkdir()
    (folder / "shard.safetensors").rename(folder / "inner" / "shard.safetensors")
    (folder / "inner" / INDEX).write_text(json.dumps(index))
    (folder / "other" / "shard.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=message):
        read_weights(folder / "inner")


def test_a_missing_tensor_is_named(folder: Path) -> None:
    change_weights(folder, **{LOGITS: None})
    with pytest.raises(CheckpointError, match=f"lack 1 tensors that config.json asks for: {LOGITS}"):
        adapt_folder(folder)


def test_a_tensor_that_nothing_uses_is_named(folder: Path) -> None:
    change_weights(folder, **{"adapter.weight": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"have 1 tensors that nothing uses: adapter.weight"):
        adapt_folder(folder)


def test_many_tensors_are_counted(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())["text_config"]
    change_config(folder, text_config={**config, "num_hidden_layers": 3})
    with pytest.raises(CheckpointError, match=r"lack 16 tensors .*layers.2.* and 10 more"):
        adapt_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"intermediate_size": 64},
            r"fc1.weight' has shape \[48, 32\] in the weights, but config.json gives \[64, 32\]",
        ),
        (
            {"patch_size": 16},
            r"patch_embedding.weight' has shape \[32, 3, 8, 8\] .*config.json gives \[32, 3, 16, 16\]",
        ),
    ],
)
def test_shapes_that_disagree_are_named_with_both(folder: Path, change: dict[str, int], message: str) -> None:
    config = json.loads((folder / "config.json").read_text())["vision_config"]
    change_config(folder, vision_config={**config, **change})
    with pytest.raises(CheckpointError, match=message):
        adapt_folder(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(folder: Path, value: float) -> None:
    tensor = torch.ones(32, 32)
    tensor[:2, :2] = value
    change_weights(folder, **{LOGITS: tensor})
    with pytest.raises(CheckpointError, match=f"{LOGITS}' has 4 of 1024 values that are NaN or infinite"):
        adapt_folder(folder)


def test_quantised_weights_are_refused(folder: Path) -> None:
    change_weights(folder, **{LOGITS: torch.ones(32, 32, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=f"{LOGITS}' is int8, expected float32, float16 or bfloat16"):
        adapt_folder(folder)


def test_load_renames_in_order_and_ignores_by_pattern() -> None:
    with torch.device("meta"):
        module = nn.ModuleDict({"layer": nn.Linear(2, 2, bias=False)})
    weights = {"model.first.weight": torch.eye(2), "old.position_ids": torch.arange(3)}
    load(module, weights, rename=((r"^layer\.", "first."), (r"^first", "model.first")), ignore=("*.position_ids",))
    assert module.get_parameter("layer.weight").tolist() == [[1, 0], [0, 1]]
    with pytest.raises(CheckpointError, match=r"nothing uses: old.position_ids"):
        load(module, weights, rename=((r"^layer\.", "model.first."),))
