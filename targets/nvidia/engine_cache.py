"""Keeps built engines, each under the hardware and software it was built for, and says why one cannot be used.

An entry is named after the graph and how it is built, and holds one engine:

    magic            8 bytes "SANDENG1"
    header length    8 bytes, little-endian
    header           JSON: hardware (name -> value), build_s, size and sha256 of the engine
    engine           as TensorRT serialised it

The hardware is not part of the name, so that an engine for another driver is found and its reason told.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sanderling.atomic import write_whole
from sanderling.engine import Build
from sanderling.errors import UserError

_MAGIC = b"SANDENG1"
_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class Found:
    """What the cache has for a graph.

    Attributes:
        engine: its bytes, or None when it cannot be used.
        reason: why not; "" when it can be used or nothing was ever kept.
        build_s: seconds the kept engine took to build; None when that is not known.
    """

    engine: bytes | None = None
    reason: str = ""
    build_s: float | None = None


class EngineCache:
    """A folder of built engines.

    Args:
        folder: made when first written to; None for `engines` in `$SANDERLING_CACHE`, else in `~/.cache/sanderling`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        home = Path(os.environ.get("SANDERLING_CACHE") or "~/.cache/sanderling").expanduser()
        self.folder = folder or home / "engines"

    def path(self, graph: bytes, build: Build) -> Path:
        """Return where the engine of a graph is kept, whatever it was built on."""
        told = json.dumps(asdict(build), sort_keys=True).encode()
        return self.folder / f"{hashlib.sha256(hashlib.sha256(graph).digest() + told).hexdigest()[:32]}.engine"

    def find(self, graph: bytes, build: Build, hardware: Mapping[str, str]) -> Found:
        """Return the engine kept for a graph, or the reason why it has to be built again.

        Args:
            graph: a serialised ONNX model.
            build: how it is built.
            hardware: what it has to run on, as `hardware_here` of the target tells.
        """
        path = self.path(graph, build)
        if not path.exists():
            return Found()
        whole = path.read_bytes()
        header, start = _header(whole)
        if header is None:
            return Found(reason=f"{path} is damaged: it is no whole entry")
        engine = whole[start:]
        if len(engine) != header["size"]:
            return Found(
                reason=f"{path} is cut short: {len(engine)} of {header['size']} bytes", build_s=header["build_s"]
            )
        if hashlib.sha256(engine).hexdigest() != header["sha256"]:
            return Found(reason=f"{path} is damaged: its digest does not fit", build_s=header["build_s"])
        changed = differences(header["hardware"], hardware)
        if changed:
            return Found(reason=f"it was built for {changed}", build_s=header["build_s"])
        return Found(engine, build_s=header["build_s"])

    def keep(self, graph: bytes, build: Build, hardware: Mapping[str, str], engine: bytes, build_s: float) -> Path:
        """Keep an engine in place of an older one and return its path.

        Raises:
            UserError: it cannot be written.
        """
        digest = hashlib.sha256(engine).hexdigest()
        entry = {"hardware": dict(hardware), "build_s": build_s, "size": len(engine), "sha256": digest}
        header = json.dumps(entry, sort_keys=True).encode()
        path = self.path(graph, build)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the engine cache {self.folder} cannot be made: {error.strerror}; set SANDERLING_CACHE"
            ) from error
        write_whole(path, [_MAGIC, _LENGTH.pack(len(header)), header, engine])
        return path


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return in words what changed, such as "driver 12.4, and this is 12.6"; "" for nothing."""
    names = sorted(set(before) | set(now))
    changed = [name for name in names if before.get(name) != now.get(name)]
    return "; ".join(
        f"{name} {before.get(name, 'unknown')}, and this is {now.get(name, 'unknown')}" for name in changed
    )


def _header(whole: bytes) -> tuple[dict[str, Any] | None, int]:
    """Return an entry's header and where its engine starts; None when it is not what `keep` writes."""
    fixed = len(_MAGIC) + _LENGTH.size
    if len(whole) < fixed or not whole.startswith(_MAGIC):
        return None, 0
    (length,) = _LENGTH.unpack_from(whole, len(_MAGIC))
    if length > _LONGEST_HEADER or len(whole) < fixed + length:
        return None, 0
    try:
        header = json.loads(whole[fixed : fixed + length])
    except ValueError:
        return None, 0
    fits = isinstance(header, dict) and set(header) == {"hardware", "build_s", "size", "sha256"}
    return (header, fixed + length) if fits and isinstance(header["hardware"], dict) else (None, 0)
