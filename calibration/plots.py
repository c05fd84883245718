"""The report's plots, as SVG elements to put into a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sanderling.errors import MissingExtraError
from sanderling.ladder import Ladder

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#4d4d4d")
"""Okabe and Ito's colours, which people with any colour vision tell apart; the yellow darkened for white paper."""

SHAPES = "osD^vPX"
"""Markers that go with the colours, so that no meaning is in the colour alone."""


@dataclass(frozen=True)
class Dot:
    """A measured setting in the ladder plot.

    Attributes:
        rule: the reducer or reducers, such as "saliency"; "none" for the full model.
        at_input: whether tokens leave before the first layer.
        p50_ms: median latency.
        quality: score.
        is_rung: whether it is in the ladder.
    """

    rule: str
    at_input: bool
    p50_ms: float
    quality: float
    is_rung: bool


@dataclass(frozen=True)
class Spread:
    """Measured calls of one rung: its name and their milliseconds."""

    name: str
    milliseconds: Sequence[float]


def ladder_svg(dots: Sequence[Dot], ladder: Ladder) -> str:
    """Return latency against quality: every setting as a small dot, the rungs joined, with their intervals."""
    figure, axes = _figure(7.4, 4.9)
    for place, rule in enumerate(sorted({dot.rule for dot in dots if not dot.is_rung})):
        colour, shape = COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)]
        for at_input in (True, False):
            some = [d for d in dots if d.rule == rule and d.at_input == at_input and not d.is_rung]
            if some:
                face = colour if at_input else "none"
                where = "at the input" if at_input else "inside"
                axes.plot(
                    [d.p50_ms for d in some], [d.quality for d in some], shape,
                    ms=5, mfc=face, mec=colour, mew=1.1, alpha=0.85, label=f"{rule}, {where}",
                )  # fmt: skip
    _draw_rungs(axes, ladder)
    axes.set_xlabel("latency of a whole call, median, ms")
    axes.set_ylabel(ladder.metric)
    axes.set_xlim(left=0)
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=4)  # outside, where no dot can be
    return _svg(figure, "ladder")


def spread_svg(spreads: Sequence[Spread]) -> str:
    """Return the distribution of each rung's calls, with its 50th, 90th and 99th percentiles marked."""
    figure, axes = _figure(7.4, 1.3 + 0.46 * len(spreads))
    values = [np.asarray(spread.milliseconds, dtype=np.float64) for spread in spreads]
    edge = 1.15 * max(float(np.percentile(v, 99)) for v in values)
    for place, found in enumerate(values):
        _draw_violin(axes, place, found[found <= edge])
        percentiles = np.percentile(found, (50, 90, 99))
        for shape, name, at in zip("|dX", ("p50", "p90", "p99"), percentiles, strict=True):
            size = 13 if shape == "|" else 6
            label = name if place == 0 else None
            axes.plot(
                [at], [place], shape, color="#1d2126", ms=size, mew=1.6 if shape == "|" else 0.5, label=label, zorder=3
            )
        _note_beyond(axes, place, int((found > edge).sum()), edge)
    axes.set_yticks(range(len(spreads)), [spread.name for spread in spreads])
    axes.set_xlim(0, edge)
    axes.set_ylim(-0.6, len(spreads) - 0.4)
    axes.set_xlabel("latency of a whole call, ms")
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=3)
    return _svg(figure, "spread")


def _draw_rungs(axes: Any, ladder: Ladder) -> None:
    x = [rung.latency.p50_ms for rung in ladder.rungs]
    y = [rung.quality.score for rung in ladder.rungs]
    low = [max(0.0, rung.quality.score - rung.quality.low) for rung in ladder.rungs]
    high = [max(0.0, rung.quality.high - rung.quality.score) for rung in ladder.rungs]
    axes.errorbar(
        x, y, yerr=[low, high], fmt="-o", color="#1d2126", ms=8, mfc="#ffffff", mew=1.8, lw=1.6,
        elinewidth=0.8, capsize=2.5, label="ladder, with 95 % interval", zorder=3,
    )  # fmt: skip


def _draw_violin(axes: Any, place: int, values: Any) -> None:
    if np.ptp(values) > 0:  # a density needs values that differ
        parts = axes.violinplot([values], positions=[place], orientation="horizontal", widths=0.8, showextrema=False)
        for body in parts["bodies"]:
            body.set(facecolor="#9cc3dd", edgecolor="#0072b2", alpha=1.0, linewidth=0.8)


def _note_beyond(axes: Any, place: int, count: int, edge: float) -> None:
    if count:
        axes.annotate(
            f"{count} beyond", (edge, place), xytext=(-4, 7), textcoords="offset points", ha="right", fontsize=7
        )


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """Return an empty figure of so many inches and its axes."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib", "report", "drawing the report") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="#e6e9ed", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#8b95a0")
    axes.tick_params(colors="#3c444d", labelsize=9)
    return figure, axes


def _svg(figure: Any, name: str) -> str:
    """Return a figure as an <svg> element; the same figure gives the same text."""
    import matplotlib as mpl

    file = io.StringIO()
    # Letters as outlines, so that the page looks the same without our fonts; ids salted, because plots share a page.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return f'<svg role="img" aria-label="{name} plot" ' + text[text.index("<svg") + len("<svg") :]
