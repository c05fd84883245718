"""`sanderling compare`: every engine in a bundle against the source model's answers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sanderling.bundle import Bundle
from sanderling.engine import usable_cores
from sanderling.errors import UnknownNameError, UnsupportedError
from sanderling.ladder import Ladder
from sanderling.manifest import FLOAT32, Drift, Manifest, Measured, Placement
from sanderling.opening import same_everywhere
from sanderling.options import add_bundle
from sanderling.tables import graphs_words, settings_words, table
from sanderling.verb import Outcome, Verb

_DESCRIPTION = """
Answer the golden cases inside a bundle on every engine it has a form for and that is installed here, and show how far
each output is from the source model's. The exit code is 1 when one is outside its bound.

Example:

  sanderling compare model.sand
  sanderling compare model.sand --targets onnxruntime,openvino
"""


def _configure(parser: ArgumentParser) -> None:
    add_bundle(parser)
    parser.add_argument("--targets", metavar="A,B", help="only these engines; all must be installed")


def _run(arguments: Namespace) -> Outcome:
    from sanderling.calibration.compare import compare
    from sanderling.calibration.reprofile import usable_targets
    from sanderling.progress import ProgressLine
    from sanderling.selftest import drift_data, drift_words, is_inside

    with Bundle.open(arguments.bundle) as bundle:
        manifest = bundle.manifest()
        targets, left_out = _targets(arguments.targets, *usable_targets(manifest))
        measured = bundle.measured() or _unmeasured(manifest, targets[0])
        rows = compare(bundle, measured, targets, ProgressLine())
    outside = [row for row in rows if not is_inside(row)]
    notes = [f"{name} left out: {reason}" for name, reason in left_out.items()]
    verdict = f"drifts: {drift_words(outside[0])}" if outside else f"all {len(rows)} outputs are inside their bounds"
    return Outcome(
        data={"rows": [drift_data(row) for row in rows], "left_out": left_out, "inside": not outside},
        text="\n".join([_table(rows), "", *notes, verdict]),
        exit_code=1 if outside else 0,
    )


def _targets(
    asked: str | None, usable: tuple[str, ...], missing: dict[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the targets to compare, and those left out because they are not installed, with the reason."""
    wanted = (*usable, *missing) if asked is None else tuple(name.strip() for name in asked.split(","))
    for name in wanted:
        if name not in usable and name not in missing:
            raise UnknownNameError("target of this bundle", name, (*usable, *missing))
    lacking = [reason for name, reason in missing.items() if name in wanted]
    if not usable or (asked is not None and lacking):
        raise UnsupportedError("; ".join(lacking))
    return tuple(name for name in wanted if name in usable), {} if asked is not None else missing


def _unmeasured(manifest: Manifest, target: str) -> Measured:
    """Return the least a session needs to open a bundle that nobody measured."""
    threads = usable_cores()
    placements = same_everywhere(manifest, Placement(target, FLOAT32, threads))
    return Measured("", {}, True, threads, placements, Ladder("", ()))


def _table(rows: tuple[Drift, ...]) -> str:
    head = ("target", "graph", "setting", "output", "max abs", "bound", "cosine", "")
    cells = [
        (
            row.target,
            graphs_words(row.graphs),
            settings_words(row.settings),
            row.output,
            f"{row.max_abs:.2e}",
            f"{row.bound:.2e}",
            f"{row.cosine:.6f}",
            "" if row.max_abs <= row.bound else "OUTSIDE",
        )
        for row in rows
    ]
    return table(head, cells)


VERB = Verb(
    help="every engine in a bundle against the source model's answers",
    description=_DESCRIPTION,
    configure=_configure,
    run=_run,
)
