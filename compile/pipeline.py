"""The whole way from a source to a bundle, on one screen."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sanderling import lookup, machine
from sanderling.bundle import write_bundle
from sanderling.calibration.dataset import Data
from sanderling.calibration.profile import Progress
from sanderling.codec import to_json
from sanderling.compile.architecture import Adapted
from sanderling.compile.cache import Cache, digest, versions
from sanderling.compile.calibrate import Calibration
from sanderling.compile.checks import check_adapted, check_output, check_samples
from sanderling.compile.golden import make_golden
from sanderling.compile.lowering import lower_all
from sanderling.compile.made_up import make_up
from sanderling.compile.measuring import Measuring, check_goals, measure_bundle
from sanderling.compile.pass_runner import Pass, run_passes
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.recipe import Recipe
from sanderling.compile.samples import with_samples
from sanderling.compile.source_quality import is_lossy, judge_source
from sanderling.compile.sources import Source, adapt, kept_in_mode
from sanderling.compile.work import Work, begin
from sanderling.engine import opener
from sanderling.errors import UnsupportedError
from sanderling.manifest import SCHEMA, Manifest, Provenance

MADE_UP_SAMPLES = 40
"""Samples made up when no data is given."""

PASS_SAMPLES = 16
"""Samples that a pass judges importance on."""


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


def compile_model(
    source: Source,
    output: str | Path,
    *,
    example_inputs: Mapping[str, Tensor] | None = None,
    calibration: Data | None = None,
    evaluation: Data | None = None,
    device: str | None = None,
    recipe: Recipe | None = None,
    cache: Cache | None = None,
    progress: Progress = silent,
) -> Path:
    """Compile a model for a device and return the path of its bundle.

    Args:
        source: a checkpoint folder, a .py file with `adapt()`, an .onnx file, an nn.Module or an `Adapted`.
        output: the bundle to write; replaced whole when the compile succeeds, untouched when it does not.
        example_inputs: for an nn.Module: input name -> tensor, in the order of `forward`.
        calibration: inputs for the self-test and for choosing engines; `evaluation` when None.
        evaluation: samples to measure latency and quality on; made up when None, and the ladder says so.
        device: name of a file in targets/devices/; the one that fits this machine when None.
        recipe: passes, targets, threads and a default budget; the defaults when None.
        cache: where lowered graphs are remembered between compiles; the user's own when None.
        progress: called with what is going on, how much is done and how much there is.

    Raises:
        UserError: the source, data or recipe cannot be used; the message says what to change.
        DriftError: an engine's outputs are further from the source model than the bound.
        GoalsMissedError: the bundle would miss a goal of the recipe; it is not written.
    """
    recipe = recipe or Recipe()
    output = Path(output)
    check_output(output)  # now, not after minutes of work
    with kept_in_mode(source):
        adapted = adapt(source, example_inputs)
        check_adapted(adapted)
        data = evaluation or make_up(adapted, MADE_UP_SAMPLES, recipe.seed)
        for given in (data, calibration or data):
            check_samples(adapted.spec, given)
        chosen_device = device or machine.fitting_device()
        targets = _targets(recipe, chosen_device)
        passes = _passes(recipe, adapted.spec.sites != ())
        work, changes = run_passes(_begun(adapted, passes, calibration or data), passes)
        for change in changes:
            progress(change, 0, 0)
        # Before lowering, because torch says in a second what is wrong with a module or a sample.
        golden, golden_members = make_golden(work, (calibration or data).samples[0])
        calibrating = Calibration(work, (calibration or data).samples)
        made = lower_all(work, targets, lookup.find("device", chosen_device), calibrating, cache or Cache(), progress)
        source_quality = judge_source(adapted, data, progress) if is_lossy(adapted, work) else None
    for note in made.notes:
        progress(note, 0, 0)
    progress(f"{made.reused} of {len(made.graphs)} graphs reused from an earlier compile", 0, 0)
    provenance = Provenance(
        source=adapted.source,
        data=_data_digest(calibration, evaluation),
        recipe=recipe.effective(passes, targets),
        versions=versions(),
    )
    manifest = Manifest(SCHEMA, work.adapted.spec, made.graphs, golden, provenance, recipe.budget)
    members: dict[str, bytes | memoryview] = {**made.members, **work.adapted.files, **golden_members}
    members["manifest.json"] = to_json(manifest)
    # Measured beside the output, under a name of its own, so that a failure or Ctrl-C leaves the folder as it was.
    with tempfile.TemporaryDirectory(prefix=".sanderling-", dir=output.absolute().parent) as folder:
        unmeasured = Path(folder) / "unmeasured.sand"
        write_bundle(unmeasured, members)
        measured = measure_bundle(
            unmeasured, Measuring(work, data, chosen_device, targets, recipe, source_quality), progress
        )
        finished = Path(folder) / "finished.sand"
        write_bundle(finished, {**members, "measured.json": to_json(measured)})
        check_goals(recipe.goals, measured, finished.stat().st_size / 1e6)
        finished.replace(output)
    return output


def _data_digest(calibration: Data | None, evaluation: Data | None) -> str:
    digests = [data.digest() for data in (calibration, evaluation) if data is not None]
    return digest(*digests) if len(digests) > 1 else "".join(digests)


def _begun(adapted: Adapted, passes: tuple[tuple[str, Pass], ...], data: Data) -> Work:
    """Return the work before any pass, with recorded inputs where a pass judges by them."""
    work = begin(adapted)
    if not any(getattr(step, "needs_samples", False) for _, step in passes):
        return work
    return with_samples(work, data, min(PASS_SAMPLES, len(data.samples)))


def _passes(recipe: Recipe, has_sites: bool) -> tuple[tuple[str, Pass], ...]:
    """Return the recipe's passes; by default token reduction, where the model has a place for it."""
    if recipe.passes is not None:
        return recipe.passes
    return (("reduce", Reduce()),) if has_sites else ()


def _targets(recipe: Recipe, device: str) -> tuple[str, ...]:
    """Return the targets to try: those asked for, all of which must be there, or those of the device that are."""
    usual: tuple[str, ...] = lookup.find("device", device).targets  # looked up even if not used: the name may be wrong
    wanted = recipe.targets or usual
    missing = {name: reason for name in wanted if (reason := opener(name).missing()) is not None}
    if recipe.targets and missing:
        raise UnsupportedError("; ".join(missing.values()))
    usable = tuple(name for name in wanted if name not in missing)
    if not usable:
        raise UnsupportedError(f"no engine of device {device!r} is installed: {'; '.join(missing.values())}")
    return usable
