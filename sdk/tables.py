"""Plain-text tables, and figures written so that people can compare them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sanderling.ladder import Ladder, Quality, Rung
from sanderling.manifest import FULL, FormatDecision, Measured

_NUMBER = re.compile(r"[-+]?(\d[\d,]*)(\.\d+)?(e[-+]?\d+)?|inf|nan|-|")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], indent: int = 2) -> str:
    """Return rows under a head, in columns two spaces apart; columns of numbers are aligned to the right.

    Args:
        head: names of the columns.
        rows: as many cells as `head` in each.
        indent: spaces before every line.
    """
    columns = list(zip(head, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [all(_NUMBER.fullmatch(cell) for cell in column[1:]) for column in columns]
    lines = []
    for cells in (head, *rows):
        placed = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        lines.append((" " * indent + "  ".join(placed)).rstrip())
    return "\n".join(lines)


def figure(value: float | None) -> str:
    """Return a measured number with about three digits, or "-" for None."""
    if value is None:
        return "-"
    size = abs(value)
    return f"{value:.{3 if size < 1 else 2 if size < 10 else 1 if size < 1000 else 0}f}"


def settings_words(settings: dict[str, int]) -> str:
    """Return lever settings such as "tokens.image=48, steps=4"; "no levers" for none."""
    return ", ".join(f"{lever}={setting}" for lever, setting in settings.items()) or "no levers"


def graphs_words(graphs: dict[str, str]) -> str:
    """Return the graphs that reduce something, such as "vision/saliency@2"; "full" when none does."""
    return " ".join(f"{component}/{graph}" for component, graph in graphs.items() if graph != FULL) or FULL


def quality_words(quality: Quality) -> str:
    """Return a score with its interval, such as "0.971 (0.945 to 0.985)"."""
    return f"{quality.score:.3f} ({quality.low:.3f} to {quality.high:.3f})"


def engines_words(measured: Measured) -> str:
    """Return where each component's full graph runs, such as "vision on openvino float32, 2 threads"."""
    words = []
    for component, graphs in measured.placements.items():
        full = graphs[FULL]
        plural = "s" if full.threads != 1 else ""
        differ = "" if set(graphs.values()) == {full} else " (some reduced graphs elsewhere)"
        words.append(f"{component} on {full.target} {full.format}, {full.threads} thread{plural}{differ}")
    return "; ".join(words)


def format_row(decision: FormatDecision) -> tuple[str, ...]:
    """Return a number format's component, name, milliseconds with it and in float32, quality likewise, and verdict."""
    after, before = (
        "-" if quality is None else f"{quality.score:.3f}" for quality in (decision.quality, decision.float32_quality)
    )
    speeds = (figure(decision.p50_ms), figure(decision.float32_ms))
    return decision.component, decision.format, *speeds, after, before, decision.verdict


def ladder_head(ladder: Ladder) -> list[str]:
    """Return the columns that `ladder_row` fills."""
    levers = list(ladder.rungs[-1].settings) if ladder.rungs else []
    return [*levers, "graph", "p50 ms", "p90 ms", "p99 ms", "memory MB", "quality", "95 % interval"]


def ladder_row(rung: Rung) -> list[str]:
    """Return one rung's cells."""
    cost, quality = rung.latency, rung.quality
    return [
        *(str(setting) for setting in rung.settings.values()),
        graphs_words(rung.graphs),
        *(figure(ms) for ms in (cost.p50_ms, cost.p90_ms, cost.p99_ms)),
        "-" if rung.memory_mb is None else f"{rung.memory_mb:.0f}",
        f"{quality.score:.3f}",
        f"{quality.low:.3f} to {quality.high:.3f}",
    ]


def ladder_table(ladder: Ladder) -> str:
    """Return the rungs as a table, cheapest first."""
    return table(ladder_head(ladder), [ladder_row(rung) for rung in ladder.rungs])
