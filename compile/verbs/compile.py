"""`sanderling compile`: from a source to a bundle."""

from __future__ import annotations

import importlib.util
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from sanderling import lookup
from sanderling.bundle import Bundle
from sanderling.codec import plain
from sanderling.errors import MissingExtraError
from sanderling.manifest import Measured, Trial
from sanderling.options import see_current_folder
from sanderling.progress import ProgressLine
from sanderling.tables import engines_words, figure, format_row, graphs_words, ladder_table, table
from sanderling.verb import Outcome, Verb

_DESCRIPTION = """
Compile a model into a bundle for a device: split it, make the graphs with fewer tokens, export, lower for every engine,
compare each with the source, choose the fastest, measure, and pack.

SOURCE is one of
  a folder       a Hugging Face checkpoint with config.json and safetensors
  a .py file     your own model: a function adapt() in it returns sanderling.compile.architecture.Adapted
  an .onnx file  as it is, with no levers

Example:

  sanderling compile ./clip-vit-base-patch16 -o clip.sand
  sanderling compile examples/scene_qa/architecture.py -o scene_qa.sand --data examples.scene_qa.data:evaluation

Without --data, quality is the agreement with the full model on inputs that are made up; the ladder says so.
"""

_LIBRARIES = ("torch", "onnx", "onnxscript", "safetensors")


class Notes(ProgressLine):
    """Shows progress, and remembers the plain messages for the result."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show a step; a total of 0 marks a message worth keeping."""
        if total == 0:
            self.notes.append(what)
        super().__call__(what, done, total)


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", type=Path, help="a checkpoint folder, a .py file or an .onnx file")
    parser.add_argument("-o", "--output", metavar="OUT.sand", type=Path, required=True, help="the bundle to write")
    parser.add_argument(
        "--device", metavar="NAME", help="a file in targets/devices; the one that fits here when left out"
    )
    parser.add_argument(
        "--recipe",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a YAML recipe: passes, targets, budget, goals; several are tried in turn until one reaches its goals",
    )
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="a layer that stays in float32 whatever the recipe's formats, as `sanderling compare --layers` suggests",
    )
    parser.add_argument("--data", metavar="MODULE:FUNCTION", help="a function that returns the data to measure on")


def _run(arguments: Namespace) -> Outcome:
    check_libraries()
    if arguments.device is not None:
        lookup.find("device", arguments.device)
    from sanderling.calibration.dataset import from_reference
    from sanderling.compile.recipe import Recipe, read_recipe
    from sanderling.compile.search import compile_first, excluding

    see_current_folder()
    progress = Notes()
    recipes = [(str(file), read_recipe(file)) for file in arguments.recipe] or [("default", Recipe())]
    if arguments.exclude:
        recipes = [(name, excluding(recipe, arguments.exclude)) for name, recipe in recipes]
    path = compile_first(
        arguments.source,
        arguments.output,
        recipes,
        progress=progress,
        evaluation=None if arguments.data is None else from_reference(arguments.data),
        device=arguments.device,
    )
    return _outcome(path, progress.notes)


def check_libraries() -> None:
    """Check that what compiling needs is installed, before any of it is imported.

    Raises:
        MissingExtraError: the message has the pip command.
    """
    for library in _LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise MissingExtraError(library, "compile", "compiling a model")


def _formats_words(measured: Measured) -> list[str]:
    if not measured.formats:
        return []
    head = ("component", "format", "ms", "float32 ms", "quality", "float32", "")
    return ["number formats\n" + table(head, [format_row(decision) for decision in measured.formats])]


def _outcome(path: Path, notes: list[str]) -> Outcome:
    with Bundle.open(path) as bundle:
        measured, digest = bundle.measured(), bundle.digest
    assert measured is not None  # compile_model packs no bundle without measurements
    megabytes = path.stat().st_size / 1e6
    data: dict[str, Any] = {
        "path": str(path),
        "bytes": path.stat().st_size,
        "digest": digest,
        "device": measured.device,
        "stand_in": measured.stand_in,
        "placements": plain(measured.placements),
        "formats": plain(measured.formats),
        "source_quality": plain(measured.source_quality),
        "ladder": plain(measured.ladder),
        "rejected": [
            {**plain(trial.rung), "reason": trial.verdict} for trial in measured.trials if trial.verdict != "rung"
        ],
        "notes": notes,
    }
    parts = [
        f"{path}  {megabytes:.2f} MB, for device {measured.device}"
        + (" (STAND-IN: measured on another machine)" if measured.stand_in else ""),
        f"  {engines_words(measured)}",
        f"ladder, cheapest first; quality is {measured.ladder.metric}\n{ladder_table(measured.ladder)}",
        *_formats_words(measured),
        *_rejected_words(measured),
        "\n".join(f"  {note}" for note in notes),
        f"next:\n{_next_words(path)}",
    ]
    return Outcome(data, "\n\n".join(parts))


def _rejected_words(measured: Measured) -> list[str]:
    """Return one line per reduced graph of which some setting did not get into the ladder."""
    by_graph: dict[str, list[Trial]] = {}
    for trial in measured.trials:
        by_graph.setdefault(graphs_words(trial.rung.graphs), []).append(trial)
    rows = []
    for graph, trials in by_graph.items():
        out = [trial for trial in trials if trial.verdict != "rung"]
        if out:
            best = max(out, key=lambda trial: trial.rung.quality.score)
            cost = figure(best.rung.latency.p50_ms)
            reason = f"{best.rung.quality.score:.3f} at {cost} ms: {best.verdict}"
            rows.append((graph, f"{len(out)} of {len(trials)}", reason))
    return ["left out of the ladder\n" + table(("graph", "settings", "the best of them"), rows)] if rows else []


def _next_words(path: Path) -> str:
    with Bundle.open(path) as bundle:
        inputs = bundle.manifest().model.inputs
    values = {"image": "photo.jpg", "text": '"a red car"', "array": "array.npy"}
    given = " ".join(f"--input {spec.name}={values[spec.kind]}" for spec in inputs)
    name, page = shlex.quote(str(path)), shlex.quote(str(path.with_suffix(".html")))
    return f"  sanderling report {name} -o {page}\n  sanderling run {name} {given}"


VERB = Verb(
    help="from a checkpoint, module or ONNX file to a bundle",
    description=_DESCRIPTION,
    configure=_configure,
    run=_run,
)
