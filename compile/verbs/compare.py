"""`sanderling compare`: every engine in a bundle against the source model's answers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from sanderling.bundle import Bundle
from sanderling.codec import plain
from sanderling.engine import usable_cores
from sanderling.errors import RecipeError, UnknownNameError, UnsupportedError
from sanderling.ladder import Ladder
from sanderling.manifest import FLOAT32, Drift, Manifest, Measured, Placement
from sanderling.opening import same_everywhere
from sanderling.options import add_bundle
from sanderling.tables import graphs_words, settings_words, table
from sanderling.verb import Outcome, Verb

if TYPE_CHECKING:
    from sanderling.compile.locate import Row

_DESCRIPTION = """
Answer the golden cases inside a bundle on every engine it has a form for and that is installed here, and show how far
each output is from the source model's. The exit code is 1 when one is outside its bound.

With --layers the full graph of one component is walked tensor by tensor instead: float32 against another number format
that the bundle has it in. The first tensor below the bound is named, and the layers to exclude; compile again with
--exclude and their patterns.

Example:

  sanderling compare model.sand
  sanderling compare model.sand --targets onnxruntime,openvino
  sanderling compare model.sand --layers vision --format int8_static --data mypackage.data:evaluation
"""

_MOST_SAMPLES = 16
"""Of `--data`, that are walked with."""


def _configure(parser: ArgumentParser) -> None:
    add_bundle(parser)
    parser.add_argument("--targets", metavar="A,B", help="only these engines; all must be installed")
    parser.add_argument("--layers", metavar="COMPONENT", help="walk this component layer by layer instead")
    parser.add_argument("--format", metavar="NAME", help="with --layers: the number format to hold against float32")
    parser.add_argument(
        "--bound", type=float, metavar="COSINE", help="with --layers: what every tensor has to keep; 0.999 by default"
    )
    parser.add_argument("--data", metavar="MODULE:FUNCTION", help="with --layers: samples; the self-test's by default")


def _run(arguments: Namespace) -> Outcome:
    if arguments.layers is not None:
        return _walk(arguments)
    for option in ("format", "bound", "data"):
        if getattr(arguments, option) is not None:
            raise RecipeError(f"--{option} is about layers; give --layers COMPONENT too, or leave it out")
    return _compare(arguments)


def _walk(arguments: Namespace) -> Outcome:
    from sanderling.calibration.dataset import from_reference
    from sanderling.compile.locate_bundle import locate_in
    from sanderling.selftest import golden_sample

    if arguments.targets is not None or arguments.format is None:
        raise RecipeError("--layers needs --format NAME and takes no --targets")
    bound = 0.999 if arguments.bound is None else arguments.bound
    if not 0 < bound <= 1:
        raise RecipeError(f"--bound is {bound}, expected a cosine above 0 and up to 1, such as 0.999")
    with Bundle.open(arguments.bundle) as bundle:
        given = [golden_sample(bundle)] if arguments.data is None else from_reference(arguments.data).samples
        found = locate_in(bundle, arguments.layers, arguments.format, given[:_MOST_SAMPLES], bound)
    first, exclude = found.located.first, found.located.exclude
    head = ("tensor", "operator", "cosine", "SNR dB", "worst sample", "")
    cells = [
        (
            r.node,
            r.operator,
            f"{r.cosine:.6f}",
            f"{r.snr_db:.1f}",
            str(r.worst_sample),
            "<- first" if r is first else "",
        )
        for r in found.located.rows
    ]
    name = f"{arguments.layers} in {arguments.format} on {found.variant.target}"
    verdict = f"{name}: every tensor keeps a cosine of {bound:g}"
    if first is not None:
        patterns = " ".join(f"--exclude '{arguments.layers}:{pattern}'" for pattern in exclude)
        verdict = f"{name} drifts first at {first.node} ({first.operator}, {first.cosine:.6f}); retry with {patterns}"
    return Outcome(
        data={
            "component": arguments.layers,
            "format": arguments.format,
            "rows": [_row_data(row) for row in found.located.rows],
            "first": None if first is None else first.node,
            "exclude": [f"{arguments.layers}:{pattern}" for pattern in exclude],
        },
        text="\n".join([table(head, cells), "", verdict]),
        exit_code=0 if first is None else 1,
    )


def _row_data(row: Row) -> dict[str, Any]:
    fields: dict[str, Any] = plain(row)
    # JSON has no infinity: nothing differs, or there is no signal to compare the noise with.
    return {name: None if value in (float("inf"), float("-inf")) else value for name, value in fields.items()}


def _compare(arguments: Namespace) -> Outcome:
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
