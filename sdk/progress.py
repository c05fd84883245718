"""Shows how far long work is: one moving line on a terminal, one line per stage elsewhere."""

from __future__ import annotations

import sys
from typing import TextIO


class ProgressLine:
    """Call it with what is going on, how much is done and how much there is; a total of 0 marks a plain message.

    Args:
        stream: where to write; standard error when None, so that standard output stays clean for results.
    """

    WIDTH = 28

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._moving = self._stream.isatty()
        self._stage = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show a step."""
        if total == 0:
            self._write_line(what)
        elif self._moving:
            filled = self.WIDTH * done // total
            bar = "#" * filled + "." * (self.WIDTH - filled)
            self._stream.write(f"\r\x1b[K[{bar}] {done}/{total} {what}" + ("\n" if done == total else ""))
        elif what != self._stage or done == total:
            self._write_line(f"{what} {done}/{total}")
        self._stage = what
        self._stream.flush()

    def _write_line(self, text: str) -> None:
        self._stream.write(("\r\x1b[K" if self._moving else "") + text + "\n")
