"""The bundle: the one file that goes to the device. This page is its format.

    at            bytes    what
    0             8        b"SANDRLNG"
    8             8        length of the header, unsigned, little endian
    16            32       sha256 of the header
    48            length   header: JSON as `sanderling.codec.to_json` writes it, no other spelling
                           {"format": 1, "members": {name: {"length": .., "offset": .., "sha256": ".."}, ..}}
    base          ..       the members, one after the other, in the header's order, which is sorted by name

Every member starts on the next multiple of 64 after what is before it; the gap is zeros. `base` is the first such
multiple after the header, and offsets count from there. The file ends with the last byte of the last member. So the
same members always give the same bytes, no byte can change unseen, and the header's digest stands for the whole file.

A name is a relative path of letters, digits and `._@+=-`, joined by "/". Members:

    manifest.json          `sanderling.manifest.Manifest`; checked without touching any other member
    measured.json          `sanderling.manifest.Measured`; may be missing; all that depends on the machine is here
    weights/<sha256>       a tensor's raw little-endian bytes, whichever graphs use it
    whatever else the manifest names: ONNX graphs without their weights, tokenizers, golden arrays (.npy)

Refused on opening: another magic, a header that is damaged, longer than 64 MB or than the file, or from a newer format;
names that escape; members that overlap, leave gaps, or do not end where the file does; a weight not named after its
digest. Refused on reading a member: another digest than the header says. Nothing in a bundle is executed, imported or
unpickled. Magic, header length and header digest stay where they are in every future format.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from sanderling import references
from sanderling.atomic import write_whole
from sanderling.codec import from_json, parse_json, to_json
from sanderling.engine import AnyArray
from sanderling.errors import BudgetError, BundleError, InternalError
from sanderling.manifest import SCHEMA, Manifest, Measured
from sanderling.npy import array_bytes, parse_npy
from sanderling.references import MANIFEST, MEASURED

__all__ = ["MANIFEST", "MEASURED", "Bundle", "array_bytes", "read_array", "replace_member", "write_bundle"]

MAGIC = b"SANDRLNG"
FORMAT = 1
ALIGNMENT = 64
MAX_HEADER_BYTES = 64 * 2**20

_PREAMBLE = struct.Struct("<8sQ32s")
_PART = re.compile(r"[A-Za-z0-9._@+=-]+")


@dataclass(frozen=True)
class Member:
    """Where a member is: bytes from `base`, how many, and the sha256 they must have."""

    offset: int
    length: int
    sha256: str


@dataclass(frozen=True)
class Header:
    """The table of contents."""

    format: int
    members: dict[str, Member]


class Bundle:
    """An open bundle. Use it in a `with` statement, or close it.

    Attributes:
        path: of the file.
        digest: sha256 of the header, in hex; it stands for every byte of the file.
    """

    def __init__(self, path: Path, view: memoryview) -> None:
        """Check the header of a mapped file; `Bundle.open` is the way in."""
        header = _header_bytes(view)
        self.path = path
        self.digest = hashlib.sha256(header).hexdigest()
        self._view = view
        self._members = _parsed_header(header).members
        self._base = _aligned(_PREAMBLE.size + len(header))
        self._checked: set[str] = set()
        self._open = True
        _check_layout(self._members, _PREAMBLE.size + len(header), view)

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Return the bundle at `path`, its header checked, its members untouched.

        Raises:
            BundleError: there is no such file, or it is damaged, unsafe or too new.
        """
        with _about(path):
            return cls(path, _map(path))

    def close(self) -> None:
        """Let go of the file; views that `read` returned stay good."""
        self._open = False
        self._view.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def names(self) -> tuple[str, ...]:
        """Return the members' names, sorted."""
        return tuple(self._members)

    def size(self, name: str) -> int:
        """Return a member's length in bytes, without reading it.

        Raises:
            BundleError: no such member.
        """
        with _about(self.path):
            return self._member(name).length

    def read(self, name: str) -> memoryview:
        """Return a member's bytes, whose digest is checked the first time.

        Raises:
            BundleError: no such member, or it is damaged.
        """
        with _about(self.path):
            if name not in self._checked:
                self._check_digest(name)
            return self._bytes(name)

    def manifest(self) -> Manifest:
        """Return what the bundle says about itself; reads no other member.

        Raises:
            BundleError: it is missing, damaged, of a newer schema, or describes no legal model.
        """
        data = bytes(self.read(MANIFEST))
        with _about(self.path):
            return _parsed_manifest(data)

    def measured(self) -> Measured | None:
        """Return what was measured, or None when nothing was; reads no other member.

        Raises:
            BundleError: it is damaged or not of the form this version reads.
        """
        if MEASURED not in self._members:
            return None
        data = bytes(self.read(MEASURED))
        with _about(self.path):
            return from_json(Measured, data, MEASURED)

    def verify(self) -> None:
        """Check everything: each member's digest, both documents, what they name, and that nothing else is there.

        Raises:
            BundleError: the first thing that is wrong, with the member's name.
        """
        with _about(self.path):
            for name in self._members:
                self._check_digest(name)
        manifest = self.manifest()
        self.measured()
        with _about(self.path):
            references.check(manifest, {name: member.length for name, member in self._members.items()})
        for name in references.arrays(manifest):
            read_array(self, name)

    def _check_digest(self, name: str) -> None:
        expected = self._member(name).sha256
        found = hashlib.sha256(self._bytes(name)).hexdigest()
        if found != expected:
            raise BundleError(
                f"member {name!r} is damaged: its sha256 is {found}, expected {expected}; copy the bundle again"
            )
        self._checked.add(name)

    def _bytes(self, name: str) -> memoryview:
        member = self._member(name)
        if not self._open:
            raise BundleError("this bundle was closed; open it again with Bundle.open")
        start = self._base + member.offset
        return self._view[start : start + member.length]

    def _member(self, name: str) -> Member:
        if name not in self._members:
            raise BundleError(f"member {name!r} is missing; the bundle has {len(self._members)} others")
        return self._members[name]


def write_bundle(path: Path, members: Mapping[str, bytes | memoryview]) -> None:
    """Write a bundle, wholly or not at all: whatever fails, an older file at `path` stays and nothing else is left.

    Args:
        path: of the file; a link is followed.
        members: name -> bytes; equal members give equal files.

    Raises:
        BundleError: a member's name is not allowed.
        UserError: the file cannot be written; the message has the room it needs when the disk is full.
    """
    views = {name: memoryview(data).cast("B") for name, data in sorted(members.items())}
    for name in views:
        _check_name(name)
    header = to_json(Header(FORMAT, _laid_out(views)))
    if len(header) > MAX_HEADER_BYTES:
        raise BundleError(f"{len(views)} members need a header of {len(header)} bytes; {MAX_HEADER_BYTES} are allowed")
    write_whole(path, list(_chunks(header, views)))


def replace_member(path: Path, name: str, data: bytes | memoryview) -> None:
    """Rewrite a bundle with one member replaced or added, wholly or not at all.

    Raises:
        BundleError: the bundle is damaged; a damaged member is never written anew under a digest that fits.
        UserError: the file cannot be written.
    """
    with Bundle.open(path) as bundle:
        members = {kept: bundle.read(kept) for kept in bundle.names()}
        write_bundle(path, {**members, name: data})


def read_array(bundle: Bundle, name: str) -> AnyArray:
    """Return the array that `array_bytes` wrote; read-only, a view of the file.

    Raises:
        BundleError: the member is missing, damaged, or anything but a `.npy` file of plain numbers.
    """
    data = bundle.read(name)
    with _about(bundle.path):
        return parse_npy(data, name)


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Say which file an error is about."""
    try:
        yield
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def _map(path: Path) -> memoryview:
    """Return a file as memory; pages are read when they are used."""
    if path.exists() and not path.is_file():
        raise BundleError("this is a folder or device, expected a bundle file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _PREAMBLE.size:
                raise BundleError(
                    f"it has {size} bytes and the smallest bundle {_PREAMBLE.size}: cut short, or no bundle"
                )
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise BundleError(f"cannot be read: {error.strerror}; give the path of a bundle file") from error


def _header_bytes(view: memoryview) -> bytes:
    magic, length, digest = _PREAMBLE.unpack_from(view)
    if magic != MAGIC:
        raise BundleError(f"it starts with {magic!r}, expected {MAGIC!r}: this is not a Sanderling bundle")
    room = min(MAX_HEADER_BYTES, len(view) - _PREAMBLE.size)
    if length > room:
        raise BundleError(
            f"its header claims {length} bytes and has room for {room}: cut short or damaged; copy it again"
        )
    header = bytes(view[_PREAMBLE.size : _PREAMBLE.size + length])
    found = hashlib.sha256(header).digest()
    if found != digest:
        raise BundleError(f"its header's sha256 is {found.hex()}, expected {digest.hex()}: damaged; copy it again")
    return header


def _parsed_header(data: bytes) -> Header:
    version = _version(data, "format", "its header")
    if version > FORMAT:
        raise BundleError(_too_new("format", version, FORMAT))
    header = from_json(Header, data, "its header")
    if version < 1 or to_json(header) != data:
        raise BundleError("its header is not in the one spelling that format 1 allows; make the bundle again")
    return header


def _parsed_manifest(data: bytes) -> Manifest:
    version = _version(data, "schema", MANIFEST)
    if version > SCHEMA:
        raise BundleError(_too_new("manifest schema", version, SCHEMA))
    try:
        return from_json(Manifest, data, MANIFEST)
    except (InternalError, BudgetError) as error:  # how a spec and a budget refuse themselves; here a file wrote them
        raise BundleError(f"{MANIFEST}: {error}") from error


def _too_new(what: str, version: int, known: int) -> str:
    return (
        f"its {what} is {version} and this Sanderling reads up to {known}: upgrade with "
        "pip install --upgrade sanderling, or compile the model again with this version"
    )


def _version(data: bytes, key: str, where: str) -> int:
    """Return the whole number at `key`, before anything else is held against the form this version knows."""
    parsed = parse_json(data, where)
    version = parsed.get(key) if isinstance(parsed, dict) else None
    if type(version) is not int:
        raise BundleError(f"{where} says {key} {version!r}, expected a whole number")
    return version


def _check_layout(members: Mapping[str, Member], end: int, view: memoryview) -> None:
    """Refuse members that are not one after the other, to the end of the file; `end` is where the header ends."""
    base = _aligned(end)
    for name, member in members.items():
        _check_name(name)
        start = _aligned(end)
        if base + member.offset != start or member.length < 0:
            raise BundleError(
                f"member {name!r} has offset {member.offset} and length {member.length}, expected offset "
                f"{start - base} and a length of at least 0: members overlap, leave gaps or lie about their size; "
                "make the bundle again"
            )
        if name.startswith("weights/") and name != f"weights/{member.sha256}":
            raise BundleError(f"member {name!r} is not named after its sha256, {member.sha256}; make the bundle again")
        if any(view[end:start]):
            raise BundleError(f"the gap before member {name!r} is not zeros: damaged; copy the bundle again")
        end = start + member.length
    if end != len(view):
        raise BundleError(
            f"it has {len(view)} bytes, and its header promises {end}: cut short or added to; copy it again"
        )


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not all(_PART.fullmatch(part) and part.strip(".") for part in parts):
        raise BundleError(
            f"member name {name!r} is not allowed: a name is a relative path of letters, digits and ._@+=-, "
            'such as "graphs/vision.onnx"'
        )


def _laid_out(views: Mapping[str, memoryview]) -> dict[str, Member]:
    members, end = {}, 0
    for name, view in views.items():
        members[name] = Member(_aligned(end), len(view), hashlib.sha256(view).hexdigest())
        end = _aligned(end) + len(view)
    return members


def _chunks(header: bytes, views: Mapping[str, memoryview]) -> Iterator[bytes | memoryview]:
    """Yield a bundle's bytes in order."""
    yield _PREAMBLE.pack(MAGIC, len(header), hashlib.sha256(header).digest()) + header
    end = _PREAMBLE.size + len(header)
    for view in views.values():
        yield bytes(_aligned(end) - end)
        yield view
        end = _aligned(end) + len(view)


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT
