"""The second half of a compile: compare engines, choose among them and the number formats, measure every setting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sanderling import machine
from sanderling.bundle import Bundle
from sanderling.calibration.admit import admit_formats
from sanderling.calibration.choose import race_graphs
from sanderling.calibration.compare import check, compare, compare_placed
from sanderling.calibration.cost import fit_cost
from sanderling.calibration.dataset import Data
from sanderling.calibration.pareto import build_ladder
from sanderling.calibration.profile import Progress, measure
from sanderling.calibration.settle import settle
from sanderling.calibration.trials import settings_to_try
from sanderling.compile.goals import Goals
from sanderling.compile.recipe import Recipe
from sanderling.compile.source_quality import SourceQuality
from sanderling.compile.work import Work
from sanderling.engine import usable_cores
from sanderling.errors import GoalsMissedError
from sanderling.ladder import Ladder
from sanderling.manifest import FLOAT32, Measured, Placement
from sanderling.opening import same_everywhere
from sanderling.session import Session


@dataclass(frozen=True)
class Measuring:
    """What a bundle is measured for.

    Attributes:
        work: the model after its passes.
        data: samples and metric.
        device: name of the device that was compiled for.
        targets: engines to try.
        recipe: threads and goals.
        source: the source model's answers, when something lossy was done to it.
    """

    work: Work
    data: Data
    device: str
    targets: tuple[str, ...]
    recipe: Recipe
    source: SourceQuality | None


def measure_bundle(path: Path, measuring: Measuring, progress: Progress) -> Measured:
    """Return what an unmeasured bundle costs and gives on this machine.

    Raises:
        DriftError: an engine's float32 outputs are further from the source model than the bound.
    """
    data, recipe, source = measuring.data, measuring.recipe, measuring.source
    references = None if source is None else source.answers
    settings = settings_to_try(measuring.work.adapted.spec, _measured_at(measuring.work))
    with Bundle.open(path) as bundle:
        first = _unplaced(bundle, measuring)
        drift = compare(bundle, first, measuring.targets, progress)
        check(drift)
        costs = race_graphs(bundle, first, measuring.targets, progress)
        telling = [settings[0], settings[len(settings) // 2]] if len(settings) > 1 else settings
        kept, formats = admit_formats(
            bundle, first, costs, telling, data, recipe.goals.format_drop_max, progress, references
        )
        placed = replace(first, placements=settle(bundle, first, costs, kept, progress), formats=formats)
        drift += compare_placed(bundle, placed, progress)
        rungs = measure(Session(bundle, measured=placed), settings, data, progress, references)
        cost_model = fit_cost(bundle.manifest(), rungs)
    ladder, trials = build_ladder(rungs, data.metric)
    quality = None if source is None else source.quality
    return replace(
        placed,
        ladder=ladder,
        trials=trials,
        drift=drift,
        placement_costs=costs,
        source_quality=quality,
        cost_model=cost_model,
    )


def check_goals(goals: Goals, measured: Measured, size_mb: float) -> None:
    """Check that a bundle reaches its recipe's goals.

    Raises:
        GoalsMissedError: it does not; the message says how close it came and what blocks it.
    """
    source = measured.source_quality or measured.ladder.rungs[-1].quality
    missed = goals.missed(measured.ladder, source.score, size_mb)
    if missed:
        raise GoalsMissedError(
            f"{'; '.join(missed)}. Loosen the goal, add passes to the recipe, or give several recipes to try in turn"
        )


def _unplaced(bundle: Bundle, measuring: Measuring) -> Measured:
    """Return measurements without a ladder: every graph in float32 on the first target."""
    threads = measuring.recipe.threads or usable_cores()
    return Measured(
        device=measuring.device,
        machine=machine.describe(),
        stand_in=measuring.device != machine.fitting_device(),
        threads=threads,
        placements=same_everywhere(bundle.manifest(), Placement(measuring.targets[0], FLOAT32, threads)),
        ladder=Ladder(measuring.data.metric, ()),
    )


def _measured_at(work: Work) -> dict[str, dict[str, list[dict[str, int]]]]:
    """Return component -> graph -> lever settings to measure."""
    found: dict[str, dict[str, list[dict[str, int]]]] = {}
    for graph in work.graphs:
        if graph.site is not None:
            settings = [{graph.site.lever: setting} for setting in graph.settings]
            found.setdefault(graph.component, {})[graph.name] = settings
    return found
