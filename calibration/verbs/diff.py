"""`sanderling diff`: two profiles, and whether the second is slower beyond noise."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from sanderling.codec import plain
from sanderling.tables import figure, table
from sanderling.verb import Outcome, Verb

if TYPE_CHECKING:
    from sanderling.calibration.diff import Comparison, RungChange
    from sanderling.calibration.intervals import Interval

_DESCRIPTION = """
Compare two files that `sanderling profile --output` wrote, rung by rung. A rung is slower when its noise band after
lies wholly above the one before: a non-parametric 95 % interval of the percentile, stretched by how far each profile
drifted while it was taken. Exit code 1 when a rung is slower, for CI.

Example:

  sanderling profile model.sand --output before.json --calls 200
  sanderling profile model.sand --output after.json --calls 200
  sanderling diff before.json after.json
  sanderling diff before.json after.json --percentile 90 --allow-percent 3
"""


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1000:
        raise ArgumentTypeError(f"{text!r} is not a percentage from 0 to 1000")
    return value


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("before", metavar="BEFORE.json", type=Path, help="the profile to hold against")
    parser.add_argument("after", metavar="AFTER.json", type=Path, help="the profile to judge")
    parser.add_argument(
        "--percentile", type=int, choices=(50, 90, 99), default=50, help="what to compare; 50, the median, by default"
    )
    parser.add_argument(
        "--allow-percent", type=_share, default=0.0, metavar="P", help="a slowdown up to so much is none; 0 by default"
    )


def _run(arguments: Namespace) -> Outcome:
    from sanderling.calibration.diff import compare_profiles
    from sanderling.calibration.profile_file import read_profile

    before, after = read_profile(arguments.before), read_profile(arguments.after)
    found = compare_profiles(before, after, arguments.percentile, arguments.allow_percent)
    data = {**plain(found), "slower": [row.name for row in found.slower]}
    return Outcome(data, _words(found), exit_code=1 if found.slower else 0)


def _words(found: Comparison) -> str:
    head = ("rung", "before ms", "band", "after ms", "band", "change", "tells from", "verdict")
    lines = [
        f"p{found.percentile}; {found.method}",
        "",
        table(head, [_row(row) for row in found.rows]),
        "",
        *(f"only in the first: {name}" for name in found.only_before),
        *(f"only in the second: {name}" for name in found.only_after),
        *(f"doubt: {doubt}" for doubt in found.doubts),
    ]
    count = len(found.slower)
    lines.append(f"{count} of {len(found.rows)} rungs slower" if count else "no rung is slower beyond noise")
    return "\n".join(lines)


def _row(row: RungChange) -> tuple[str, ...]:
    blamed = f" ({', '.join(row.components)})" if row.components else ""
    return (
        row.name,
        figure(row.before.value_ms),
        _band(row.before),
        figure(row.after.value_ms),
        _band(row.after),
        f"{100 * row.change:+.1f} %",
        f"{100 * row.band:.1f} %",
        row.verdict + blamed,
    )


def _band(interval: Interval) -> str:
    return f"{figure(interval.low_ms)} to {figure(interval.high_ms)}"


VERB = Verb(
    help="whether one profile is slower than another, beyond noise",
    description=_DESCRIPTION,
    configure=_configure,
    run=_run,
)
