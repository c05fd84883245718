"""Remembers lowered graphs between compiles, by a digest of everything that went into them.

A cache is a folder of files named by digest: `<key>.json` lists a graph's variants, `blob/<sha256>` holds bytes. Files are
written whole or not at all, and checked when read, so a damaged entry is made again rather than used.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import sanderling
import torch
from sanderling.atomic import write_whole
from sanderling.codec import from_json, to_json
from sanderling.errors import BundleError
from sanderling.manifest import Variant
from torch import nn

VERSIONED = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy")
"""Libraries whose version changes what a compile makes."""


@dataclass(frozen=True)
class Lowered:
    """A graph in every target's form, and the bytes of its members."""

    variants: tuple[Variant, ...]
    members: dict[str, bytes]


@dataclass(frozen=True)
class _Entry:
    variants: tuple[Variant, ...]
    blobs: dict[str, str]


class Cache:
    """A folder of lowered graphs.

    Args:
        folder: made when first written to; None for `$SANDERLING_CACHE`, else `~/.cache/sanderling`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(os.environ.get("SANDERLING_CACHE", "~/.cache/sanderling")).expanduser()

    def get(self, key: str) -> Lowered | None:
        """Return the graph made under this key, or None when there is none or a file of it is damaged."""
        try:
            entry = from_json(_Entry, (self.folder / f"{key}.json").read_bytes(), "cache entry")
            members = {name: (self.folder / "blob" / blob).read_bytes() for name, blob in entry.blobs.items()}
        except (FileNotFoundError, BundleError):
            return None
        if any(hashlib.sha256(members[name]).hexdigest() != blob for name, blob in entry.blobs.items()):
            return None
        return Lowered(entry.variants, members)

    def put(self, key: str, lowered: Lowered) -> None:
        """Remember a graph under a key."""
        (self.folder / "blob").mkdir(parents=True, exist_ok=True)
        blobs = {name: hashlib.sha256(data).hexdigest() for name, data in lowered.members.items()}
        for name, blob in blobs.items():
            path = self.folder / "blob" / blob
            if not path.exists():
                write_whole(path, [lowered.members[name]])
        write_whole(self.folder / f"{key}.json", [to_json(_Entry(lowered.variants, blobs))])


def versions() -> dict[str, str]:
    """Return library -> installed version, of those that matter to what a compile makes."""
    found = {"sanderling": sanderling.__version__}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def digest(*parts: str | bytes) -> str:
    """Return the sha256 of the parts, each with its length, as hex."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()


def module_digest(module: nn.Module) -> str:
    """Return the digest of a module's weights and of the source files of every class in it.

    The files count whole, so that a changed helper function beside a class is noticed as well.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else tensor.numpy().tobytes())
    for path in sorted({path for kind in {type(m) for m in module.modules()} if (path := _source_file(kind))}):
        total.update(Path(path).read_bytes())
    total.update(repr(module).encode())
    return total.hexdigest()


def package_digest() -> str:
    """Return the digest of Sanderling's own source: another version of it may lower another way."""
    root = Path(sanderling.__file__).parent
    files = sorted(root.rglob("*.py"))
    return digest(*(part for path in files for part in (str(path.relative_to(root)), path.read_bytes())))


def members_digest(members: Mapping[str, bytes]) -> str:
    """Return the digest of named bytes."""
    return digest(*(part for name in sorted(members) for part in (name, members[name])))


def _source_file(kind: type) -> str | None:
    try:
        return inspect.getsourcefile(kind)
    except TypeError:
        return None  # built into the interpreter: its version is in `versions`
