"""A bundle is written wholly or not at all, and what went wrong is said with numbers."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_bundle import files_in, members

from sanderling.bundle import write_bundle
from sanderling.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole bundle, alone in its folder."""
    write_bundle(tmp_path / "model.sand", members())
    return tmp_path / "model.sand"


def fail_with(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("call", [(os, "fsync"), (Path, "replace")], ids=["while writing", "while moving"])
@pytest.mark.parametrize("name", ["model.sand", "new.sand"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(OSError(errno.ENOSPC, "No space"), r"[\d.]+ MB are needed and [\d.]+ MB are free", id="disk full"),
        pytest.param(OSError(errno.EDQUOT, "Quota"), "your quota is full", id="quota"),
        pytest.param(OSError(errno.EIO, "Input/output error"), "Input/output error; choose a file", id="broken disk"),
        pytest.param(KeyboardInterrupt("by hand"), "by hand", id="ctrl-c"),
    ],
)
def test_failed_write_leaves_nothing_behind(
    path: Path, call: tuple[object, str], name: str, error: BaseException, expected: str
) -> None:
    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*call, fail_with(error))
        with pytest.raises(UserError if isinstance(error, OSError) else type(error), match=expected):
            write_bundle(path.parent / name, {"other": b"content"})
    assert files_in(path.parent) == ["model.sand"]
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_full_device_is_reported_by_the_system_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = Path.open

    def open_full(self: Path, mode: str) -> object:
        real_open(self, mode).close()
        return real_open(Path("/dev/full"), "wb")

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(UserError, match=r"the disk or your quota is full: 0\.1\d\d MB are needed"):
        write_bundle(tmp_path / "x.sand", {"big": bytes(100_000)})
    assert files_in(tmp_path) == []


def test_needed_room_is_the_size_of_the_file(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(OSError(errno.ENOSPC, "full")))
    free = shutil.disk_usage(tmp_path)._replace(free=1_500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(UserError, match=rf"{path.stat().st_size / 1e6:.3f} MB are needed and 1\.500 MB are free"):
        write_bundle(tmp_path / "x.sand", members())


@pytest.mark.parametrize(
    ("place", "message"),
    [
        pytest.param(
            "missing/x.sand", "No such file or directory; choose a file in a folder that exists", id="no folder"
        ),
        pytest.param("model.sand/x.sand", "Not a directory; choose", id="file as folder"),
        pytest.param(".", "this is a folder; give the path of a file", id="folder"),
    ],
)
def test_wrong_places_are_refused(path: Path, place: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_bundle(path.parent / place, members())
    assert files_in(path.parent) == ["model.sand"]
