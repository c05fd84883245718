"""What a run writes down: a row of JSON every so many steps, TensorBoard's scalars, a line of progress."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sanderling.atomic import write_whole
from sanderling.errors import MissingExtraError

RECORD, TENSORBOARD = "record.jsonl", "tensorboard"


class Record:
    """The record of a run in a folder; rows later than the step it resumes from are taken back.

    Args:
        out: folder of the run.
        step: steps that are done.
        steps: steps of the whole run.
        tensorboard: also write TensorBoard's event files, into `out / "tensorboard"`.
        progress: called as `sanderling.progress.ProgressLine`, None to show nothing.

    Raises:
        MissingExtraError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self, out: Path, step: int, steps: int, tensorboard: bool, progress: Callable[[str, int, int], None] | None
    ) -> None:
        self._path, self._steps, self._progress = out / RECORD, steps, progress
        self._board = _open_board(out / TENSORBOARD, step) if tensorboard else None
        if self._path.exists():
            rows = [row for row in self._path.read_text().splitlines() if _step_of(row) <= step]
            write_whole(self._path, ["".join(f"{row}\n" for row in rows).encode()])

    def write(self, row: dict[str, float]) -> None:
        """Add a row; it has the number of "step"s done and the "loss"."""
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        step = int(row["step"])
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, step)
            self._board.flush()
        if self._progress is not None:
            self._progress(f"distill, loss {row['loss']:.4g}", step, self._steps)

    def close(self) -> None:
        """Write what is still waiting."""
        if self._board is not None:
            self._board.close()


def _step_of(row: str) -> float:
    """Return the steps done at a row; infinity for one that a kill cut short."""
    try:
        return float(json.loads(row)["step"])
    except json.JSONDecodeError:
        return float("inf")


def _open_board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "train", "writing TensorBoard's scalars") from error
    # Events of steps that a kill undid are hidden from the step on that the run repeats.
    return SummaryWriter(str(folder), purge_step=step + 1)
