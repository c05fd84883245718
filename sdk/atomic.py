"""Files that are written wholly or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from sanderling.errors import UserError


def write_whole(path: Path, chunks: Sequence[bytes | memoryview]) -> None:
    """Write a file; whatever fails, an older file at `path` stays as it was and nothing else is left.

    Args:
        path: of the file; a link is followed, and the permissions of an older file are kept.
        chunks: its content in order; a view is of bytes.

    Raises:
        UserError: the file cannot be written; when the disk is full, the message has the room it needs.
    """
    # The temporary file must be on the disk of what a link points to, or it could not take that place in one step.
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UserError(
            f"cannot write {path}: this is a folder; give the path of a file, such as {path / 'model.sand'}"
        )
    temporary = target.with_name(f".sanderling-{secrets.token_hex(8)}.partial")
    try:
        _write_then_move(temporary, target, chunks)
    except OSError as error:
        raise UserError(f"cannot write {path}: {_reason(error, target.parent, chunks)}") from error


def _write_then_move(temporary: Path, target: Path, chunks: Sequence[bytes | memoryview]) -> None:
    try:
        with temporary.open("xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())  # else a power cut after the move can leave an empty file under the right name
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # after the move there is none


def _reason(error: OSError, folder: Path, chunks: Sequence[bytes | memoryview]) -> str:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; choose a file in a folder that exists and that you may write to"
    needed = sum(len(chunk) for chunk in chunks) / 1e6
    free = shutil.disk_usage(folder).free / 1e6
    return (
        f"the disk or your quota is full: {needed:.3f} MB are needed and {free:.3f} MB are free; "
        "make room, or write to another disk. Nothing was changed"
    )
