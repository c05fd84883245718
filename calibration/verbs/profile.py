"""`sanderling profile`: measure a bundle on the machine it is on."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from sanderling.bundle import MEASURED, Bundle, replace_member
from sanderling.codec import plain, to_json
from sanderling.errors import UserError
from sanderling.ladder import Rung
from sanderling.manifest import Measured
from sanderling.options import add_bundle
from sanderling.tables import engines_words, figure, graphs_words, settings_words, table
from sanderling.verb import Outcome, Verb

if TYPE_CHECKING:
    from sanderling.calibration.standalone import Asked
    from sanderling.conditions import Conditions

_DESCRIPTION = """
Measure the ladder's rungs again on this machine, with the input of the bundle's self-test, and write latency, memory
and machine into the bundle. Run it once on the device: until then its figures are the compiling machine's. On another
machine than before, the engines are compared and chosen again first. Quality stays as it was measured. Rungs that do
not pay here leave the ladder; --all measures every setting that was tried at compile time, so that one that pays only
here can enter.

--output measures the ladder as it is, leaves the bundle alone and writes a profile of its own: every call, percentiles
with confidence intervals, load and first-call time, and the machine's clocks, temperature, throttling and load before
and after. `sanderling diff` compares two of them.

Example:

  sanderling profile model.sand
  sanderling profile model.sand --all --calls 100
  sanderling profile model.sand --dry-run
  sanderling profile model.sand --output profile.json --calls 200 --cool-below 60 --operators
"""

_WAIT_S = 300.0
"""Longest wait for a cooler machine unless told otherwise."""


def whole_from_one(text: str) -> int:
    """Return a command-line argument as a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return value


def _celsius(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -50 <= value <= 150:
        raise ArgumentTypeError(f"{text!r} is not a temperature from -50 to 150 degrees Celsius")
    return value


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
    parser.add_argument("--cool-below", type=_celsius, metavar="C", help="wait until no sensor is hotter, or refuse")
    parser.add_argument(
        "--wait", type=_seconds, metavar="S", help=f"for the machine to cool, at most; {_WAIT_S:g} by default"
    )
    group = parser.add_argument_group("a profile of its own")
    group.add_argument("--output", metavar="PROFILE.json", type=Path, help="write it here and leave the bundle alone")
    group.add_argument(
        "--operators",
        nargs="?",
        const="",
        metavar="COMPONENT",
        help="time every operator of the full model, by the engine's own profiler; of one component or of all",
    )
    group.add_argument("--roofline", action="store_true", help="measure what the machine can do at most, too")


def _run(arguments: Namespace) -> Outcome:
    _check(arguments)
    return _reprofile(arguments) if arguments.output is None else _profile(arguments)


def _check(arguments: Namespace) -> None:
    """Refuse options that would change nothing."""
    if arguments.wait is not None and arguments.cool_below is None:
        raise UserError("--wait says how long to wait for --cool-below, which is not given; add --cool-below 60, say")
    if arguments.output is None:
        for name in ("operators", "roofline"):
            if getattr(arguments, name) not in (None, False):
                raise UserError(f"--{name} goes into a profile of its own; say where with --output profile.json")
    elif arguments.threads is not None:
        raise UserError(
            "--threads chooses engines again and writes into the bundle, --output leaves it alone; run "
            f"`sanderling profile {arguments.bundle} --threads {arguments.threads}` first, then with --output"
        )


def _profile(arguments: Namespace) -> Outcome:
    from sanderling.calibration.profile_file import write_profile
    from sanderling.calibration.profile_words import profile_words
    from sanderling.calibration.standalone import take_profile
    from sanderling.progress import ProgressLine

    if not arguments.output.parent.is_dir():  # known before minutes of calls, not after
        raise UserError(f"cannot write {arguments.output}: there is no folder {arguments.output.parent}; make it first")
    profile = take_profile(arguments.bundle, _asked(arguments), ProgressLine())
    write_profile(arguments.output, profile)
    return Outcome(plain(profile), f"{profile_words(profile)}\nwritten to {arguments.output}")


def _asked(arguments: Namespace) -> Asked:
    from sanderling.calibration.standalone import Asked

    return Asked(
        calls=arguments.calls,
        everything=arguments.everything,
        operators=arguments.operators,
        roofline=arguments.roofline,
        cool_below_c=arguments.cool_below,
        wait_s=_wait_s(arguments),
    )


def _wait_s(arguments: Namespace) -> float:
    return _WAIT_S if arguments.wait is None else float(arguments.wait)


def _reprofile(arguments: Namespace) -> Outcome:
    from sanderling.calibration.reprofile import reprofile
    from sanderling.calibration.thermal_gate import wait_until_cool
    from sanderling.conditions import read_conditions
    from sanderling.progress import ProgressLine

    path: Path = arguments.bundle
    progress = ProgressLine()
    if arguments.cool_below is not None:
        wait_until_cool(arguments.cool_below, _wait_s(arguments), progress)
    began = read_conditions()
    with Bundle.open(path) as bundle:
        before = bundle.measured()
        after = reprofile(bundle, arguments.calls, arguments.everything, arguments.threads, progress)
    ended = read_conditions()
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
            "conditions": {"before": plain(began), "after": plain(ended)},
            "written": not arguments.dry_run,
        },
        text="\n".join([*_doubts(began, ended), _words(path, before, after, arguments.dry_run)]),
    )


def _doubts(began: Conditions, ended: Conditions) -> list[str]:
    from sanderling.conditions import changes
    from sanderling.engine import usable_cores

    return [f"doubt: {doubt}" for doubt in changes(began, ended, usable_cores())]


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
