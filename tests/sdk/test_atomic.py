"""A bundle is written wholly or not at all, and what went wrong is said with numbers."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sanderling.bundle import write_bundle
from sanderling.errors import UserError
from tiny_bundle import members


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole bundle, alone in its folder."""
    write_bundle(tmp_path / "model.sand", members())
    return tmp_path / "model.sand"


def fail_with(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("old", [True, False], ids=["over an old file", "new file"])
@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        pytest.param(
            OSError(errno.ENOSPC, "No space left"), UserError, r"[\d.]+ MB are needed and [\d.]+ MB are free", id="disk"
        ),
        pytest.param(OSError(errno.EDQUOT, "Quota"), UserError, "your quota is full", id="quota"),
        pytest.param(OSError(errno.EIO, "Input/output error"), UserError, "Input/output error; choose", id="device"),
        pytest.param(KeyboardInterrupt(), KeyboardInterrupt, None, id="ctrl-c"),
    ],
)
def test_failed_write_leaves_nothing_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    old: bool,
    error: BaseException,
    raised: type[BaseException],
    message: str | None,
) -> None:
    path = tmp_path / "model.sand"
    if old:
        path.write_bytes(b"old")
    monkeypatch.setattr(os, call, fail_with(error))
    with pytest.raises(raised, match=message):
        write_bundle(path, members())
    assert os.listdir(tmp_path) == (["model.sand"] if old else [])
    assert not old or path.read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_full_device_is_reported_by_the_system_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = Path.open

    def open_full(self: Path, mode: str) -> object:
        real_open(self, mode).close()
        return open("/dev/full", "wb")

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(UserError, match="the disk or your quota is full: 0.1.. MB are needed"):
        write_bundle(tmp_path / "x.sand", {"big": bytes(100_000)})
    assert os.listdir(tmp_path) == []


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
    assert os.listdir(path.parent) == ["model.sand"]
