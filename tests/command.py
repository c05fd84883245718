"""Runs the `sanderling` command inside the test process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sanderling.bundle import Bundle
from sanderling.cli import main


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def sanderling(capsys: pytest.CaptureFixture[str], *arguments: object) -> Result:
    """Return the exit code and what was printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return Result(stopped.value.code, out, err)


def damage(path: Path, prefix: str) -> str:
    """Flip a bit in the middle of the largest member whose name starts so; return the member's name."""
    with Bundle.open(path) as bundle:
        name = max((n for n in bundle.names() if n.startswith(prefix)), key=bundle.size)
        content = bytes(bundle.read(name))
    data = bytearray(path.read_bytes())
    data[data.index(content) + len(content) // 2] ^= 1
    path.write_bytes(data)
    return name
