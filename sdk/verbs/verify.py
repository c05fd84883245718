"""`sanderling verify`: is this bundle whole, and does it answer as its source model did?"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from sanderling.bundle import Bundle
from sanderling.errors import BundleError
from sanderling.manifest import Drift
from sanderling.options import add_bundle
from sanderling.tables import graphs_words, settings_words
from sanderling.verb import Outcome, Verb

_DESCRIPTION = """
Check every byte of a bundle against its digests, and everything the manifest names against what is there.

With --run, also answer the golden cases inside the bundle on the engines it names and hold them against what the
source model answered. The exit code is 1 when the bundle is damaged or an answer is outside its bound.

Example:

  sanderling verify model.sand
  sanderling verify model.sand --run
"""


def _configure(parser: ArgumentParser) -> None:
    add_bundle(parser)
    parser.add_argument("--run", action="store_true", dest="run_golden", help="also run the golden cases here")


def _run(arguments: Namespace) -> Outcome:
    path: Path = arguments.bundle
    _check_readable(path)
    try:
        with Bundle.open(path) as bundle:
            bundle.verify()
            members, digest = len(bundle.names()), bundle.digest
    except BundleError as error:
        return Outcome({"whole": False, "problem": str(error)}, f"not whole: {error}", exit_code=1)
    data: dict[str, Any] = {"whole": True, "members": members, "digest": digest}
    whole = f"whole: all {members} members of {path} are what they were (digest {digest[:16]})"
    if not arguments.run_golden:
        return Outcome(data, whole)
    from sanderling.selftest import drift_data, is_inside

    rows = _golden(path)
    data["golden"] = [drift_data(row) for row in rows]
    outside = [row for row in rows if not is_inside(row)]
    text = _golden_words(rows) if not outside else _outside_words(outside, len(rows))
    return Outcome(data | {"inside": not outside}, f"{whole}\n{text}", exit_code=1 if outside else 0)


def _check_readable(path: Path) -> None:
    """Tell a path that is wrong, which is the user's mistake, from a bundle that is."""
    if not path.is_file():
        raise BundleError(f"{path}: there is no such file; give the path of a bundle")
    if not os.access(path, os.R_OK):
        raise BundleError(f"{path}: you may not read this file")


def _golden(path: Path) -> tuple[Drift, ...]:
    from sanderling.progress import ProgressLine
    from sanderling.selftest import run_golden
    from sanderling.session import load

    line = ProgressLine()
    with load(path) as session:
        engines = " and ".join(
            sorted({way.target for graphs in session.measured.placements.values() for way in graphs.values()})
        )
        return run_golden(session, engines, lambda done, total: line(f"running golden cases on {engines}", done, total))


def _golden_words(rows: tuple[Drift, ...]) -> str:
    worst = max(rows, key=lambda row: row.max_abs / row.bound)
    return (
        f"right: {len(rows)} golden outputs on {worst.target} are inside their bounds; the furthest is "
        f"{worst.max_abs:.2g} of {worst.bound:.2g} allowed, in {worst.output}"
    )


def _outside_words(outside: list[Drift], of: int) -> str:
    lines = [
        f"  {row.output} with {graphs_words(row.graphs)} at {settings_words(row.settings)}: "
        f"{row.max_abs:.3g} away, bound {row.bound:.3g}"
        for row in outside
    ]
    return "\n".join(
        [f"wrong: {len(outside)} of {of} golden outputs are outside their bounds on {outside[0].target}", *lines]
    )


VERB = Verb(
    help="check that a bundle is whole, and with --run that it answers rightly here",
    description=_DESCRIPTION,
    configure=_configure,
    run=_run,
)
