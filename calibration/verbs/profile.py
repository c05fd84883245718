"""`sanderling profile`: measure a bundle on the machine it is on."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from sanderling.bundle import MEASURED, Bundle, replace_member
from sanderling.codec import plain, to_json
from sanderling.ladder import Rung
from sanderling.manifest import Measured
from sanderling.options import add_bundle
from sanderling.tables import engines_words, figure, graphs_words, settings_words, table
from sanderling.verb import Outcome, Verb

_DESCRIPTION = """
Measure the ladder's rungs again on this machine, with the input of the bundle's self-test, and write latency, memory
and machine into the bundle. Run it once on the device: until then its figures are the compiling machine's. On another
machine than before, the engines are compared and chosen again first. Quality stays as it was measured. Rungs that do
not pay here leave the ladder; --all measures every setting that was tried at compile time, so that one that pays only
here can enter.

Example:

  sanderling profile model.sand
  sanderling profile model.sand --all --calls 100
  sanderling profile model.sand --dry-run
"""


def whole_from_one(text: str) -> int:
    """Return a command-line argument as a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _configure(parser: ArgumentParser) -> None:
    add_bundle(parser)
    parser.add_argument(
        "--calls", type=whole_from_one, default=60, metavar="N", help="calls of each rung; 60 by default"
    )
    parser.add_argument("--all", action="store_true", dest="everything", help="every setting that was ever tried")
    parser.add_argument(
        "--threads", type=whole_from_one, metavar="N", help="the most worker threads; chooses engines again"
    )
    parser.add_argument("--dry-run", action="store_true", help="measure, and leave the bundle as it is")


def _run(arguments: Namespace) -> Outcome:
    from sanderling.calibration.reprofile import reprofile
    from sanderling.progress import ProgressLine

    path: Path = arguments.bundle
    with Bundle.open(path) as bundle:
        before = bundle.measured()
        after = reprofile(bundle, arguments.calls, arguments.everything, arguments.threads, ProgressLine())
    if not arguments.dry_run:
        replace_member(path, MEASURED, to_json(after))
    return Outcome(
        data={
            "device": after.device,
            "stand_in": after.stand_in,
            "machine": after.machine,
            "placements": plain(after.placements),
            "before": [] if before is None else [plain(rung) for rung in before.ladder.rungs],
            "after": [plain(rung) for rung in after.ladder.rungs],
            "written": not arguments.dry_run,
        },
        text=_words(path, before, after, arguments.dry_run),
    )


def _words(path: Path, before: Measured | None, after: Measured, dry_run: bool) -> str:
    from sanderling.calibration.reprofile import is_earlier

    stand_in = ", on a stand-in: this machine is another" if after.stand_in else ""
    lines = [f"device {after.device}{stand_in}; {engines_words(after)}", "", _comparison(before, after), ""]
    if before is not None and before.machine != after.machine:
        lines.append("This is another machine than before: engines were compared and chosen again.")
    older = sum(is_earlier(trial) for trial in after.trials)
    if older:
        lines.append(f"{older} settings outside the ladder were not measured again; --all measures them too.")
    lines.append(f"{path} left as it is" if dry_run else f"written to {path}")
    return "\n".join(lines)


def _comparison(before: Measured | None, after: Measured) -> str:
    """Return every rung of either ladder with its median before and now."""
    old = {} if before is None else {_name(rung): rung for rung in before.ladder.rungs}
    now = {_name(trial.rung): trial for trial in after.trials}
    names = [_name(rung) for rung in after.ladder.rungs]
    names += [name for name in old if name not in names]
    rows = []
    for name in names:
        rung, verdict = now[name].rung, now[name].verdict
        was = old[name].latency.p50_ms if name in old else None
        change = "-" if was is None else f"{100 * (rung.latency.p50_ms / was - 1):+.0f} %"
        rows.append(
            (
                name,
                figure(was),
                *_costs(rung),
                change,
                f"{rung.quality.score:.3f}",
                "" if verdict == "rung" else verdict,
            )
        )
    return table(("rung", "p50 before", "p50 ms", "p90 ms", "p99 ms", "change", "quality", "out, because"), rows)


def _costs(rung: Rung) -> tuple[str, str, str]:
    cost = rung.latency
    return figure(cost.p50_ms), figure(cost.p90_ms), figure(cost.p99_ms)


def _name(rung: Rung) -> str:
    return f"{graphs_words(rung.graphs)} {settings_words(rung.settings)}"


VERB = Verb(
    help="measure a bundle on this machine and write that into it",
    description=_DESCRIPTION,
    configure=_configure,
    run=_run,
)
