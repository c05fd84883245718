"""Hugging Face checkpoint folders: their configuration and weights, read strictly.

Nothing in a folder is executed: weights come from safetensors only, and a pickle is refused by name. Every tensor the
model needs has to be there in the configured shape, and every tensor that is there has to be used or named as unused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sanderling import lookup
from sanderling.compile.architecture import Adapted, Architecture
from sanderling.errors import CheckpointError

Weights = dict[str, Tensor]
"""Tensor name -> tensor, as a checkpoint names them."""

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PREPARATION = ("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_SAVE = "write the folder with `model.save_pretrained(folder)`"


def adapt_folder(folder: Path) -> Adapted:
    """Return the model in a checkpoint folder, split into its components.

    Args:
        folder: has config.json and safetensors weights; its `model_type` names a file in `compile/models/`.

    Raises:
        CheckpointError: the folder cannot be read, or its files disagree.
        UnknownNameError: no architecture serves the `model_type`; the message lists those there are.
    """
    config = read_config(folder)
    architecture: Architecture = lookup.find("architecture", config["model_type"])
    return architecture.adapt(folder, config)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the parsed config.json of a checkpoint folder; it has a `model_type`.

    Raises:
        CheckpointError: no folder, no file, not JSON, or no `model_type`.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; models are read from a local folder: {_SAVE}")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} has no {CONFIG}, only {_found(folder)}; {_SAVE}")
    config = read_json(folder / CONFIG)
    if not isinstance(config.get("model_type"), str):
        known = ", ".join(lookup.names("architecture"))
        raise CheckpointError(f"{folder / CONFIG} names no model_type, which says how to read it. Known: {known}.")
    return config


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        CheckpointError: not readable, not JSON, or not an object.
    """
    try:
        parsed = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}); {_SAVE} again") from error
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{path} holds a {type(parsed).__name__}, expected a JSON object")
    return parsed


def read_weights(folder: Path) -> Weights:
    """Return every tensor of a checkpoint folder; float16 and bfloat16 become float32.

    Reads model.safetensors, or the shards that model.safetensors.index.json lists.

    Raises:
        CheckpointError: no safetensors weights, or a file that is missing, damaged or listed wrongly.
    """
    weights: Weights = {}
    for path in weight_files(folder):
        weights.update(_read_file(path))
    sharded = not (folder / SINGLE).is_file()
    missing = sorted(set(_weight_map(folder)) - set(weights)) if sharded else []
    if missing:
        raise CheckpointError(f"{folder / INDEX} lists {_some(missing)}, which no shard holds; {_SAVE} again")
    return weights


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a checkpoint folder, sorted by name.

    Raises:
        CheckpointError: there are none, or one that the index lists is missing.
    """
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    if not (folder / INDEX).is_file():
        raise CheckpointError(_no_weights(folder))
    names = sorted(set(_weight_map(folder).values()))
    # The index is data from outside: a name with a folder in it could point anywhere.
    bad = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if bad or not names:
        raise CheckpointError(f"{folder / INDEX} lists {_some(bad)}, not found in {folder}; copy every shard there")
    return tuple(folder / name for name in names)


def digest(folder: Path) -> str:
    """Return the sha256, in hex, over the names and bytes of every file that decides what the model computes."""
    paths = [folder / name for name in (CONFIG, INDEX, *PREPARATION) if (folder / name).is_file()]
    total = hashlib.sha256()
    for path in sorted([*paths, *weight_files(folder)]):
        with path.open("rb") as file:
            total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def load(
    module: nn.Module, weights: Mapping[str, Tensor], rename: Sequence[tuple[str, str]] = (), ignore: Iterable[str] = ()
) -> None:
    """Fill every parameter of a module from a checkpoint's tensors, which the module then shares.

    Args:
        module: may be on the meta device.
        weights: as `read_weights` returns them.
        rename: (regular expression, replacement) pairs, applied in order to a parameter's name; the result is its
            name in the checkpoint.
        ignore: checkpoint names that nothing needs, as shell patterns such as "*.position_ids".

    Raises:
        CheckpointError: tensors are missing, left over, of another shape or dtype, or not finite.
    """
    wanted = {name: _renamed(name, rename) for name in module.state_dict()}
    missing = [source for source in wanted.values() if source not in weights]
    ignored = tuple(ignore)
    extra = sorted(n for n in set(weights) - set(wanted.values()) if not any(fnmatchcase(n, p) for p in ignored))
    if missing or extra:
        raise CheckpointError(_disagreement(missing, extra))
    for name, parameter in module.state_dict().items():
        expect_shape(weights, wanted[name], tuple(parameter.shape))
        _check_values(wanted[name], weights[wanted[name]])
    module.load_state_dict({name: weights[source] for name, source in wanted.items()}, assign=True)


def expect_shape(weights: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> None:
    """Do nothing when the tensor is absent or has the shape that the configuration gives.

    Raises:
        CheckpointError: it has another; the message has both shapes.
    """
    if name in weights and tuple(weights[name].shape) != shape:
        raise CheckpointError(
            f"tensor {name!r} has shape {list(weights[name].shape)} in the weights, but config.json gives "
            f"{list(shape)}; take both files from the same `save_pretrained`"
        )


def _check_values(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.float32:
        raise CheckpointError(
            f"tensor {name!r} is {str(tensor.dtype).removeprefix('torch.')}, expected float32, float16 or bfloat16; "
            "save the model unquantised with `model.float().save_pretrained(folder)`"
        )
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise CheckpointError(
            f"tensor {name!r} has {bad} of {tensor.numel()} values that are NaN or infinite; the checkpoint is "
            "damaged or its training diverged, take an earlier one"
        )


def _read_file(path: Path) -> Weights:
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({error}); copy it again") from error
    # Copied, because what safetensors returns is a view of the file, which may change while the model is compiled.
    return {n: t.to(torch.float32, copy=True) if t.dtype in _FLOATS else t.clone() for n, t in stored.items()}


def _weight_map(folder: Path) -> dict[str, str]:
    table = read_json(folder / INDEX).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(file, str) for file in table.values()):
        raise CheckpointError(f"{folder / INDEX} has no weight_map from tensor names to files; {_SAVE} again")
    return table


def _no_weights(folder: Path) -> str:
    pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
    if pickles:
        return (
            f"{folder} has its weights only as {pickles[0]}, a pickle, which can run code when it is read; where you "
            "trust it, load the model with transformers and `model.save_pretrained(folder)` writes safetensors"
        )
    return f"{folder} has neither {SINGLE} nor {INDEX}, only {_found(folder)}; {_SAVE}"


def _found(folder: Path) -> str:
    return _some(sorted(path.name for path in folder.iterdir()))


def _renamed(name: str, rename: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in rename:
        name = re.sub(pattern, replacement, name)
    return name


def _disagreement(missing: Sequence[str], extra: Sequence[str]) -> str:
    parts = []
    if missing:
        parts.append(f"the weights lack {len(missing)} tensors that config.json asks for: {_some(missing)}")
    if extra:
        parts.append(f"the weights have {len(extra)} tensors that nothing uses: {_some(extra)}")
    return f"{'; '.join(parts)}. Take config.json and the weights from the same `save_pretrained`."


def _some(names: Sequence[str], most: int = 6) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{rest}" if names else "nothing"
