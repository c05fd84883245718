"""The cache gives back what was put in, or nothing: a damaged entry is made again, never used."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanderling.compile.cache import Cache, Lowered, digest, package_digest, versions
from sanderling.errors import UserError
from sanderling.manifest import Variant, Weight

WEIGHT = Weight("w", "float32", (2,), "weights/0")
LOWERED = Lowered(
    (Variant("onnxruntime", "float32", "graphs/a", (WEIGHT,)),), {"graphs/a": b"graph", "weights/0": b"12345678"}
)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "made" / "when needed")
    cache.put("key", LOWERED)
    return cache


def blob(cache: Cache, content: bytes) -> Path:
    return next(path for path in (cache.folder / "blob").iterdir() if path.read_bytes() == content)


def test_gives_back_what_was_put_in(cache: Cache) -> None:
    assert cache.get("key") == LOWERED
    assert Cache(cache.folder).get("key") == LOWERED
    assert cache.get("another key") is None


def test_bytes_are_kept_once(cache: Cache) -> None:
    cache.put("another key", LOWERED)
    assert len(list((cache.folder / "blob").iterdir())) == 2


@pytest.mark.parametrize("content", [b"graph", b"12345678"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damaged_bytes_are_not_used_and_are_made_again(cache: Cache, content: bytes, damage: str) -> None:
    path = blob(cache, content)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"X" + content[1:] if damage == "flipped" else content[:-1])
    assert cache.get("key") is None
    cache.put("key", LOWERED)
    assert cache.get("key") == LOWERED


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"w"', b'"v"'), (b"onnxruntime", b"onnxrunTime"), (b"\n", b""), (b"}", b""), (b"", b"\xff")],
    ids=["weight", "target", "no digest", "no JSON", "no text"],
)
def test_a_damaged_list_is_not_used_and_is_made_again(cache: Cache, old: bytes, new: bytes) -> None:
    path = cache.folder / "key.json"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    assert cache.get("key") is None
    cache.put("key", LOWERED)
    assert cache.get("key") == LOWERED


def test_the_folder_is_the_user_s_unless_the_environment_names_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value, folder in [(str(tmp_path / "c"), tmp_path / "c"), ("", tmp_path / ".cache" / "sanderling")]:
        monkeypatch.setenv("SANDERLING_CACHE", value)
        assert Cache().folder == folder
    monkeypatch.delenv("SANDERLING_CACHE")
    assert Cache().folder == tmp_path / ".cache" / "sanderling"


def test_a_folder_that_cannot_be_made_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot be made: .*; name another folder in SANDERLING_CACHE"):
        Cache(tmp_path / "file").put("key", LOWERED)


def test_digests_keep_parts_apart_and_do_not_depend_on_the_run() -> None:
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
    assert package_digest() == package_digest()


def test_versions_name_what_decides_the_graphs() -> None:
    assert {"sanderling", "torch", "onnx", "onnxscript", "onnxruntime", "numpy"} <= set(versions())
