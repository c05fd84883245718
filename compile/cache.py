"""Remembers lowered graphs between compiles, by a digest of everything that went into them.

A cache is a folder of files named by digest: `<key>.json` lists a graph's variants below the sha256 of that list,
`blob/<sha256>` holds bytes. Files are written whole or not at all, and checked when read, so a damaged entry is made
again rather than used.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import sanderling
from sanderling.atomic import write_whole
from sanderling.codec import from_json, to_json
from sanderling.errors import UserError
from sanderling.manifest import Variant

VERSIONED = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "numpy")
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
        self.folder = folder or Path(os.environ.get("SANDERLING_CACHE") or "~/.cache/sanderling").expanduser()

    def get(self, key: str) -> Lowered | None:
        """Return the graph made under this key, or None when there is none or a file of it is damaged."""
        try:
            digest, _, listed = (self.folder / f"{key}.json").read_bytes().partition(b"\n")
            if hashlib.sha256(listed).hexdigest().encode() != digest:
                return None
            entry = from_json(_Entry, listed, "cache entry")
            members = {name: (self.folder / "blob" / blob).read_bytes() for name, blob in entry.blobs.items()}
        except FileNotFoundError:
            return None
        if any(hashlib.sha256(members[name]).hexdigest() != blob for name, blob in entry.blobs.items()):
            return None
        return Lowered(entry.variants, members)

    def put(self, key: str, lowered: Lowered) -> None:
        """Remember a graph under a key.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            (self.folder / "blob").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the cache {self.folder} cannot be made: {error.strerror}; name another folder in SANDERLING_CACHE"
            ) from error
        blobs = {name: hashlib.sha256(data).hexdigest() for name, data in lowered.members.items()}
        for name, blob in blobs.items():
            path = self.folder / "blob" / blob
            if not _holds(path, blob):
                write_whole(path, [lowered.members[name]])
        listed = to_json(_Entry(lowered.variants, blobs))
        write_whole(self.folder / f"{key}.json", [hashlib.sha256(listed).hexdigest().encode(), b"\n", listed])


def _holds(path: Path, digest: str) -> bool:
    """Return whether a file is there and undamaged."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False


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


def package_digest() -> str:
    """Return the digest of Sanderling's own source: another version of it may lower another way."""
    root = Path(sanderling.__file__).parent
    files = sorted(root.rglob("*.py"))
    return digest(*(part for path in files for part in (str(path.relative_to(root)), path.read_bytes())))
