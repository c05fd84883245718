"""`sanderling report`: one page that shows what a bundle costs, what it gives and what it looks at."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from sanderling.atomic import write_whole
from sanderling.bundle import Bundle
from sanderling.calibration.verbs.profile import whole_from_one
from sanderling.options import add_bundle, see_current_folder
from sanderling.verb import Outcome, Verb

_DESCRIPTION = """
Write one self-contained HTML page: the ladder with every setting that was tried, the latency of each rung measured
again here, the picture with the tokens each rung keeps, why each component runs on its engine, and the origin.

Example:

  sanderling report model.sand -o report.html
  sanderling report model.sand -o report.html --data examples.scene_qa.data:evaluation
"""


def _configure(parser: ArgumentParser) -> None:
    add_bundle(parser)
    parser.add_argument("-o", "--output", metavar="PAGE.html", type=Path, required=True, help="the page to write")
    parser.add_argument(
        "--calls", type=whole_from_one, default=60, metavar="N", help="calls of each rung; 60 by default"
    )
    parser.add_argument(
        "--data", metavar="MODULE:FUNCTION", help="samples to call with and draw; the self-test's when left out"
    )


def _run(arguments: Namespace) -> Outcome:
    from sanderling.calibration.dataset import from_reference
    from sanderling.calibration.report import make_report
    from sanderling.progress import ProgressLine

    see_current_folder()
    samples = [] if arguments.data is None else from_reference(arguments.data).samples
    with Bundle.open(arguments.bundle) as bundle:
        text = make_report(bundle, arguments.calls, samples, ProgressLine())
    page = text.encode()
    write_whole(arguments.output, [page])
    return Outcome({"path": str(arguments.output), "bytes": len(page)}, f"{arguments.output}  {len(page) / 1e6:.2f} MB")


VERB = Verb(
    help="one HTML page: ladder, latency, what is looked at, origin",
    description=_DESCRIPTION,
    configure=_configure,
    run=_run,
)
