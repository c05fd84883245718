"""The bundle file: what is written comes back, and nothing damaged, unsafe or too new gets in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import WEIGHT, WEIGHT_MEMBER, check_all, files_in, manifest, measured, members, passes

from sanderling.bundle import Bundle, replace_member, write_bundle
from sanderling.codec import to_json
from sanderling.errors import BundleError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole bundle, alone in its folder."""
    write_bundle(tmp_path / "model.sand", members())
    return tmp_path / "model.sand"


def crafted(header: object, body: bytes = b"") -> bytes:
    """A file with any header, under the digest that fits it; the body starts on the boundary."""
    data = header if isinstance(header, bytes) else (json.dumps(header, indent=1, sort_keys=True) + "\n").encode()
    preamble = struct.pack("<8sQ32s", b"SANDRLNG", len(data), hashlib.sha256(data).digest())
    return preamble + data + bytes(-(48 + len(data)) % 64) + body


def entry(offset: object, length: object, data: bytes = b"") -> dict[str, object]:
    return {"offset": offset, "length": length, "sha256": hashlib.sha256(data).hexdigest()}


# What is written comes back


def test_round_trip_returns_every_member(path: Path) -> None:
    with Bundle.open(path) as bundle:
        assert bundle.names() == tuple(sorted(members()))
        assert {name: bytes(bundle.read(name)) for name in bundle.names()} == members()
        assert {name: bundle.size(name) for name in bundle.names()} == {n: len(d) for n, d in members().items()}
        assert bundle.manifest() == manifest()
        assert bundle.measured() is None
        bundle.verify()


def test_random_members_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for trial in range(50):
        names = [f"p{rng.integers(9)}/{number}.bin" for number in range(rng.integers(0, 12))]
        given = {name: rng.bytes(int(rng.choice([0, 1, 63, 64, 65, 200]))) for name in names}
        write_bundle(tmp_path / f"{trial}.sand", given)
        with Bundle.open(tmp_path / f"{trial}.sand") as bundle:
            assert {name: bytes(bundle.read(name)) for name in bundle.names()} == given


def test_file_reads_as_its_documentation_says(path: Path) -> None:
    """Written from the page at the top of bundle.py, with none of its code."""
    data = path.read_bytes()
    magic, length, digest = struct.unpack("<8sQ32s", data[:48])
    header = data[48 : 48 + length]
    base = (48 + length + 63) // 64 * 64
    found = {n: (base + m["offset"], m["length"]) for n, m in json.loads(header)["members"].items()}
    assert (magic, digest) == (b"SANDRLNG", hashlib.sha256(header).digest())
    assert all(start % 64 == 0 for start, _ in found.values())
    assert {name: data[start : start + size] for name, (start, size) in found.items()} == members()
    assert max(start + size for start, size in found.values()) == len(data)


def test_equal_members_give_equal_bytes_in_any_order(tmp_path: Path, path: Path) -> None:
    write_bundle(tmp_path / "other.sand", dict(reversed(members().items())))
    assert (tmp_path / "other.sand").read_bytes() == path.read_bytes()


def test_digest_follows_content(tmp_path: Path, path: Path) -> None:
    write_bundle(tmp_path / "same.sand", members())
    write_bundle(tmp_path / "other.sand", members(**{"graphs/c.onnx": b"not opened herE"}))
    digests = []
    for name in ("model.sand", "same.sand", "other.sand"):
        with Bundle.open(tmp_path / name) as bundle:
            digests.append(bundle.digest)
    assert digests[0] == digests[1] != digests[2]


def test_views_of_any_element_type_are_written_as_bytes(tmp_path: Path) -> None:
    write_bundle(tmp_path / "v.sand", {"w": WEIGHT.data})
    with Bundle.open(tmp_path / "v.sand") as bundle:
        assert bundle.read("w") == WEIGHT.tobytes()


def test_views_outlive_the_bundle_and_a_closed_bundle_says_so(path: Path) -> None:
    with Bundle.open(path) as bundle:
        view = bundle.read("graphs/c.onnx")
    assert bytes(view) == b"not opened here"
    with pytest.raises(BundleError, match="closed; open it again"):
        bundle.read("graphs/c.onnx")


def test_missing_member_is_named(path: Path) -> None:
    with Bundle.open(path) as bundle, pytest.raises(BundleError, match=r"model\.sand: member 'nope' is missing"):
        bundle.read("nope")
    with Bundle.open(path) as bundle, pytest.raises(BundleError, match=r"model\.sand: member 'nope' is missing"):
        bundle.size("nope")


# Replacing a member


def test_replace_member_adds_and_replaces(path: Path) -> None:
    replace_member(path, "measured.json", to_json(measured()))
    with Bundle.open(path) as bundle:
        bundle.verify()
        assert bundle.measured() == measured()
    replace_member(path, "measured.json", to_json(dataclasses.replace(measured(), threads=1)))
    with Bundle.open(path) as bundle:
        again = bundle.measured()
        assert again == dataclasses.replace(measured(), threads=1)
    assert files_in(path.parent) == ["model.sand"]


def test_replace_member_leaves_an_open_bundle_readable(path: Path) -> None:
    with Bundle.open(path) as bundle:
        replace_member(path, "graphs/c.onnx", b"new")
        assert bytes(bundle.read("graphs/c.onnx")) == b"not opened here"


def test_replace_member_refuses_to_give_damage_a_fresh_digest(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=f"member '{WEIGHT_MEMBER}' is damaged"):
        replace_member(path, "measured.json", to_json(measured()))
    assert path.read_bytes() == data


def test_link_stays_a_link_and_permissions_stay(path: Path) -> None:
    path.chmod(0o640)
    link = path.parent / "current.sand"
    link.symlink_to(path.name)
    replace_member(link, "graphs/c.onnx", b"new")
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    with Bundle.open(path) as bundle:
        assert bytes(bundle.read("graphs/c.onnx")) == b"new"


# Damage


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_every_flipped_byte_is_found(path: Path, mask: int) -> None:
    missed = []
    with path.open("r+b", buffering=0) as file:
        for place, byte in enumerate(file.read()):
            file.seek(place)
            file.write(bytes([byte ^ mask]))
            if passes(path):
                missed.append(place)
            file.seek(place)
            file.write(bytes([byte]))
    assert missed == []
    check_all(path)


def test_every_truncation_is_refused_on_opening(path: Path) -> None:
    for length in reversed(range(path.stat().st_size)):
        os.truncate(path, length)
        with pytest.raises(BundleError):
            Bundle.open(path)


def test_random_damage_never_escapes_as_another_error(path: Path, tmp_path: Path) -> None:
    """Bytes changed, cut out and put in; the header's digest made to fit half of the time."""
    rng = np.random.default_rng(1)
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[8:16])[0]
    for trial in range(400):
        data = bytearray(whole)
        for place in rng.integers(0, 48 + length, size=int(rng.integers(1, 4))):
            data[place] = int(rng.integers(256))
        if trial % 2:
            data[8:48] = struct.pack("<Q32s", length, hashlib.sha256(data[48 : 48 + length]).digest())
        (tmp_path / "damaged.sand").write_bytes(data)
        if data != whole:
            with pytest.raises(BundleError):
                check_all(tmp_path / "damaged.sand")


def test_trailing_bytes_are_refused(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=f"has {size + 1} bytes, and its header promises {size}"):
        Bundle.open(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda p: None, "cannot be read: No such file", id="missing"),
        pytest.param(lambda p: p.mkdir(), "folder or device, expected a bundle file", id="folder"),
        pytest.param(os.mkfifo, "folder or device, expected a bundle file", id="pipe"),
        pytest.param(lambda p: p.write_bytes(b""), "0 bytes and the smallest bundle 48", id="empty"),
        pytest.param(
            lambda p: p.write_bytes(b"PK\3\4" + bytes(99)), "expected b'SANDRLNG'.* not a Sanderling", id="zip"
        ),
    ],
)
def test_what_is_no_bundle_is_refused(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "x.sand"
    make(path)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 10**9, 64 * 2**20 + 1])
def test_header_length_that_lies_is_refused_without_allocating(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.sand"
    path.write_bytes(struct.pack("<8sQ32s", b"SANDRLNG", length, bytes(32)) + bytes(100))
    with pytest.raises(BundleError, match=f"header claims {length} bytes and has room for 100"):
        Bundle.open(path)


def test_header_over_its_limit_is_refused_even_when_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x.sand"
    with path.open("wb") as file:
        file.write(struct.pack("<8sQ32s", b"SANDRLNG", 64 * 2**20 + 1, bytes(32)))
        file.truncate(70 * 2**20)  # sparse: takes no disk
    with pytest.raises(BundleError, match="header claims 67108865 bytes and has room for 67108864"):
        Bundle.open(path)


# Headers that lie, under a digest that fits


@pytest.mark.parametrize(
    "name", ["", "../x", "/x", "a//b", "a/../b", "a\\b", "a/", ".", "a\0b", "C:x", "a b", "é", "x\n", "a/./b"]
)
def test_names_that_escape_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.sand"
    with pytest.raises(BundleError, match="is not allowed: a name is a relative path"):
        write_bundle(path, {name: b"data"})
    assert files_in(tmp_path) == []
    path.write_bytes(crafted({"format": 1, "members": {name: entry(0, 4, b"data")}}, b"data"))
    with pytest.raises(BundleError, match="is not allowed: a name is a relative path"):
        Bundle.open(path)


def test_crafted_header_that_tells_the_truth_opens(tmp_path: Path) -> None:
    path = tmp_path / "x.sand"
    path.write_bytes(crafted({"format": 1, "members": {"a": entry(0, 4, b"data")}}, b"data"))
    with Bundle.open(path) as bundle:
        assert bytes(bundle.read("a")) == b"data"


PLACE = "expected offset .* and a length of at least 0"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param({"a": entry(0, 64), "b": entry(0, 64)}, PLACE, id="overlap"),
        pytest.param({"a": entry(64, 64), "b": entry(0, 64)}, PLACE, id="wrong order"),
        pytest.param({"a": entry(0, 60), "b": entry(60, 68)}, PLACE, id="unaligned"),
        pytest.param({"a": entry(0, 1), "b": entry(128, 0)}, PLACE, id="hole"),
        pytest.param({"a": entry(-64, 128)}, PLACE, id="negative offset"),
        pytest.param({"a": entry(0, -1)}, PLACE, id="negative length"),
        pytest.param({"a": entry(0, 129)}, "has .* bytes, and its header promises", id="longer than the file"),
        pytest.param({"a": entry(0, 10**30)}, "has .* bytes, and its header promises", id="longer than memory"),
        pytest.param({"a": entry(0, 100)}, "has .* bytes, and its header promises", id="shorter than the file"),
        pytest.param({}, "has .* bytes, and its header promises", id="no members"),
        pytest.param({"a": entry(0, True)}, "length is bool True, expected int", id="bool"),
        pytest.param({"a": entry(0, 128.0)}, "length is float 128.0, expected int", id="float"),
        pytest.param({"a": entry("0", 128)}, "offset is str '0', expected int", id="text"),
        pytest.param({"a": {"offset": 0, "length": 128}}, r"missing fields \['sha256'\]", id="no digest"),
        pytest.param({"a": [0, 128]}, "expected dict", id="list"),
        pytest.param({"weights/ab": entry(0, 128)}, "is not named after its sha256", id="weight's name"),
    ],
)
def test_lying_tables_are_refused(tmp_path: Path, entries: dict[str, object], message: str) -> None:
    path = tmp_path / "x.sand"
    path.write_bytes(crafted({"format": 1, "members": entries}, bytes(128)))
    with pytest.raises(BundleError, match=message):
        Bundle.open(path)


def test_gap_that_hides_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.sand"
    entries = {"a": entry(0, 1, b"a"), "b": entry(64, 1, b"b")}
    path.write_bytes(crafted({"format": 1, "members": entries}, b"a" + b"secret".ljust(63, b"\0") + b"b"))
    with pytest.raises(BundleError, match="gap before member 'b' is not zeros"):
        Bundle.open(path)


TABLE = entry(0, 0)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param(b'{"format": 1, "format": 1, "members": {}}', "'format' comes twice", id="key twice"),
        pytest.param(b'{"format": 1, "members": {}}', "one spelling", id="other spelling"),
        pytest.param({"format": 2, "members": {}, "new": 1}, "format is 2 and this .* up to 1: upgrade", id="newer"),
        pytest.param({"format": 0, "members": {}}, "one spelling", id="format 0"),
        pytest.param({"format": True, "members": {}}, "format True, expected a whole number", id="format bool"),
        pytest.param({"members": {}}, "format None, expected a whole number", id="no format"),
        pytest.param({"format": 1}, r"missing fields \['members'\]", id="no members"),
        pytest.param({"format": 1, "members": {}, "x": 1}, r"unknown fields \['x'\]", id="unknown key"),
        pytest.param([1], "format None", id="list"),
        pytest.param(b"\xff\xfe{", "is not JSON", id="not text"),
        pytest.param(b"[" * 100_000, "is not JSON", id="nested"),
        pytest.param(b"9" * 5000, "is not JSON", id="huge number"),
        pytest.param(b"", "is not JSON", id="empty"),
    ],
)
def test_wrong_headers_are_refused(tmp_path: Path, header: object, message: str) -> None:
    path = tmp_path / "x.sand"
    path.write_bytes(crafted(header))
    with pytest.raises(BundleError, match=message):
        Bundle.open(path)
