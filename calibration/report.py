"""The report: what was compiled, what it costs and gives, and how we know, on one page."""

from __future__ import annotations

from collections.abc import Sequence

from sanderling import machine
from sanderling.bundle import Bundle
from sanderling.calibration.dataset import Sample
from sanderling.calibration.kept import draw_kept, find_grid
from sanderling.calibration.plots import Dot, Spread, ladder_svg, spread_svg
from sanderling.calibration.profile import Progress, call_in_turn, cost_of, is_full
from sanderling.calibration.report_page import (
    collapsed,
    drawing,
    facts,
    heading,
    html_table,
    page,
    paragraph,
    pictures,
)
from sanderling.calibration.reprofile import is_earlier
from sanderling.errors import BundleError
from sanderling.ladder import Ladder, Rung
from sanderling.manifest import Drift, Manifest, Measured, PlacementCost, Trial
from sanderling.selftest import golden_sample
from sanderling.session import Session
from sanderling.tables import engines_words, figure, format_row, graphs_words, ladder_head, ladder_row, settings_words

MOST_SAMPLES = 3
"""Pictures of `--data` that are drawn."""

MOST_RUNGS = 5
"""Rungs that each picture is drawn at."""


def make_report(bundle: Bundle, calls: int, samples: Sequence[Sample], progress: Progress) -> str:
    """Return the page.

    Args:
        bundle: what to report on; its ladder is called again here for the latency distribution.
        calls: of each rung.
        samples: inputs to call with and to draw; the self-test's own when empty.
        progress: told after every round.

    Raises:
        BundleError: nothing was measured yet.
        MissingExtraError: matplotlib or an engine is not installed.
    """
    manifest, measured = bundle.manifest(), bundle.measured()
    if measured is None:
        raise BundleError(f"{bundle.path} holds no measurements; `sanderling profile {bundle.path}` takes them")
    ladder_part = _ladder_part(manifest, measured)  # first, so that a missing library is noticed before measuring
    session = Session(bundle, measured=measured)
    shown = list(samples[:MOST_SAMPLES]) or [golden_sample(bundle)]
    return page(
        f"{manifest.model.name}: Sanderling report",
        [
            *_top(bundle, manifest, measured),
            *ladder_part,
            *_spread_part(session, measured, list(samples) or shown, calls, progress),
            *_kept_part(session, measured.ladder, shown),
            *_formats_part(measured),
            *_engines_part(measured),
            *_drift_part(measured.drift),
            *_rejected_part(measured),
            *_provenance_part(bundle, manifest),
        ],
    )


def _top(bundle: Bundle, manifest: Manifest, measured: Measured) -> list[str]:
    model = manifest.model
    size = sum(bundle.size(name) for name in bundle.names()) / 1e6
    return [
        heading(model.name, level=1),
        paragraph(f"Compiled for device {measured.device}: {bundle.path.name}, {size:.2f} MB", "soft"),
        *_warnings(measured),
        facts(
            [
                ("takes", ", ".join(f"{spec.name} ({spec.kind})" for spec in model.inputs)),
                ("gives", ", ".join(model.outputs)),
                ("runs", engines_words(measured)),
                ("levers", ", ".join(f"{v.name}, {v.minimum} to {v.maximum}" for v in model.levers) or "none"),
                ("quality is", measured.ladder.metric),
                ("measured on", ", ".join(f"{name} {value}" for name, value in measured.machine.items())),
            ]
        ),
    ]


def _warnings(measured: Measured) -> list[str]:
    found = []
    if measured.stand_in:
        found.append(
            f"STAND-IN. These figures were not measured on {measured.device} but on the machine named below. "
            "Latency on the device will differ; run `sanderling profile` there."
        )
    if measured.machine != machine.describe():
        found.append("The latency distribution below was measured on another machine than the ladder.")
    return [paragraph(text, "warn") for text in found]


def _ladder_part(manifest: Manifest, measured: Measured) -> list[str]:
    ladder = measured.ladder
    best, cheapest = ladder.rungs[-1], ladder.rungs[0]
    comparable = [trial for trial in measured.trials if not is_earlier(trial)]
    older = len(measured.trials) - len(comparable)
    return [
        heading("Ladder: what a budget buys"),
        paragraph(_ladder_words(best, cheapest, len(ladder.rungs))),
        drawing(
            ladder_svg([_dot(manifest, trial) for trial in comparable], ladder),
            "Every setting that was measured with the ladder. White circles are the ladder; small marks are "
            "settings that are not in it, filled where tokens leave at the input, hollow where they leave inside.",
        ),
        *([paragraph(_older_words(older), "soft")] if older else []),
        html_table(ladder_head(ladder), [ladder_row(rung) for rung in ladder.rungs], "The ladder, cheapest first"),
    ]


def _ladder_words(best: Rung, cheapest: Rung, count: int) -> str:
    if count == 1:
        return "One rung, the full model: nothing that was tried is faster and pays for what it costs in quality."
    speed = best.latency.p50_ms / cheapest.latency.p50_ms
    return (
        f"{count} rungs, from {figure(cheapest.latency.p50_ms)} ms at quality {cheapest.quality.score:.3f} to "
        f"{figure(best.latency.p50_ms)} ms at {best.quality.score:.3f}: the cheapest is {speed:.1f} times as fast as "
        "the full model. A rung is here only if nothing tried is as fast and as good."
    )


def _older_words(count: int) -> str:
    return (
        f"{count} other settings are not drawn: their latency is from before the ladder was measured again. "
        "`sanderling profile --all` measures them too."
    )


def _dot(manifest: Manifest, trial: Trial) -> Dot:
    graphs = [manifest.graph(component, name) for component, name in trial.rung.graphs.items()]
    reduced = [graph for graph in graphs if graph.reducer]
    return Dot(
        rule=" + ".join(sorted({graph.reducer for graph in reduced})) or "no token left out",
        at_input=all(graph.kind == "input" for graph in reduced),
        p50_ms=trial.rung.latency.p50_ms,
        quality=trial.rung.quality.score,
        is_rung=trial.verdict == "rung",
    )


def _spread_part(
    session: Session, measured: Measured, samples: Sequence[Sample], calls: int, progress: Progress
) -> list[str]:
    rungs = measured.ladder.rungs
    plans = [session.at(rung.settings, rung.graphs) for rung in rungs]
    records = call_in_turn(session, plans, samples, calls, progress)
    spreads = [Spread(_short(rung), record.spent_ms) for rung, record in zip(rungs, records, strict=True)]
    rows = []
    for rung, spread in zip(rungs, spreads, strict=True):
        now = cost_of(spread.milliseconds)
        then = rung.latency
        figures = (now.p50_ms, now.p90_ms, now.p99_ms, then.p50_ms, then.p90_ms, then.p99_ms)
        rows.append((spread.name, *(figure(ms) for ms in figures)))
    head = ("rung", "p50 now", "p90 now", "p99 now", "p50 in the bundle", "p90 in the bundle", "p99 in the bundle")
    return [
        heading("Latency, measured again for this page"),
        paragraph(f"{calls} calls of each rung, taking turns, whole calls with preparation of the inputs."),
        drawing(
            spread_svg(spreads),
            "How often which latency came. Bars mark the median, diamonds the 90th and crosses the 99th percentile.",
        ),
        html_table(head, rows, "Milliseconds"),
    ]


def _short(rung: Rung) -> str:
    """Return a rung's name for an axis, such as "saliency@2 · 48"."""
    if is_full(rung) and len(set(rung.settings.values())) <= 1:
        return "full model"
    graphs = " ".join(graph for graph in rung.graphs.values() if graph != "full") or "full"
    return f"{graphs} · {' '.join(str(setting) for setting in rung.settings.values())}"


def _kept_part(session: Session, ladder: Ladder, samples: Sequence[Sample]) -> list[str]:
    grid = find_grid(session.manifest)
    if grid is None:
        return []
    parts = [
        heading("What the model looks at"),
        paragraph(
            "The same picture at several rungs. Dark patches are left out before or inside the encoder; where a rung "
            "merges, they live on inside the bright ones."
        ),
    ]
    for sample in samples:
        said = [
            f"{name}: {value}" for name, value in sample.items() if isinstance(value, str) and name != grid.image.name
        ]
        parts += [paragraph(text, "soft") for text in said]
        items = []
        for rung in _spaced(ladder.rungs):
            kept = draw_kept(session, rung, sample, grid)
            how = "others merged into these" if kept.merges else "others dropped"
            if kept.kept == kept.of:
                how = "nothing left out"
            caption = f"{_short(rung)}: {kept.kept} of {kept.of} tokens, {how}; {figure(rung.latency.p50_ms)} ms"
            items.append((kept.uri, f"picture with {kept.kept} of {kept.of} patches kept", caption))
        parts.append(pictures(items))
    return parts


def _spaced(rungs: Sequence[Rung]) -> list[Rung]:
    """Return at most MOST_RUNGS rungs from the best down, evenly spaced over the ladder."""
    steps = min(MOST_RUNGS, len(rungs))
    places = {round(i * (len(rungs) - 1) / max(1, steps - 1)) for i in range(steps)}
    return [rungs[place] for place in sorted(places, reverse=True)]


def _formats_part(measured: Measured) -> list[str]:
    if not measured.formats:
        return []
    head = ("component", "format", "ms", "ms in float32", "quality", "quality in float32", "what became of it")
    return [
        heading("Number formats"),
        html_table(
            head,
            [format_row(decision) for decision in measured.formats],
            "Each was measured and judged on the evaluation set; float32 stays where nothing faster is good enough.",
        ),
    ]


def _engines_part(measured: Measured) -> list[str]:
    if not measured.placement_costs:
        return []
    rows = [_engine_row(cost, measured) for cost in measured.placement_costs]
    head = ("component", "graph", "setting", "engine", "format", "threads", "calls", "median ms", "")
    return [
        heading("Why each graph runs where it does"),
        html_table(
            head,
            rows,
            "Candidates took turns on the same input; the smallest geometric mean over a graph's rows won.",
        ),
    ]


def _engine_row(cost: PlacementCost, measured: Measured) -> tuple[str, ...]:
    way = cost.placement
    chosen = "chosen" if measured.placements[cost.component][cost.graph] == way else ""
    figures = (way.target, way.format, str(way.threads), str(cost.samples), figure(cost.p50_ms))
    return cost.component, cost.graph, settings_words(cost.settings), *figures, chosen


def _drift_part(drift: Sequence[Drift]) -> list[str]:
    if not drift:
        return []
    rows = []
    for target in sorted({row.target for row in drift}):
        of_target = [row for row in drift if row.target == target]
        worst = max(of_target, key=lambda row: row.max_abs / row.bound)
        rows.append(
            (
                target,
                str(len(of_target)),
                worst.output,
                f"{graphs_words(worst.graphs)} {settings_words(worst.settings)}",
                f"{worst.max_abs:.1e}",
                f"{worst.bound:.1e}",
                f"{worst.cosine:.6f}",
            )
        )
    head = ("engine", "outputs compared", "worst output", "at", "largest difference", "bound", "cosine")
    return [
        heading("How close the engines are to the source model"),
        html_table(head, rows, "The worst output of each engine, over all golden cases"),
    ]


def _rejected_part(measured: Measured) -> list[str]:
    out = [trial for trial in measured.trials if trial.verdict != "rung"]
    if not out:
        return []
    rows = [(*ladder_row(trial.rung), trial.verdict) for trial in out]
    table = html_table((*ladder_head(measured.ladder), "why not"), rows)
    return [heading("What was tried and left out"), collapsed(f"{len(out)} settings and their verdicts", table)]


def _provenance_part(bundle: Bundle, manifest: Manifest) -> list[str]:
    made = manifest.provenance
    return [
        heading("Where it comes from"),
        facts(
            [
                ("bundle digest", bundle.digest),
                ("source digest", made.source),
                ("data digest", made.data or "no data given: inputs were made up"),
                ("recipe", made.recipe),
                *made.versions.items(),
            ]
        ),
    ]
