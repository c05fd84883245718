"""Measures a bundle again on the machine it is on now, and builds its ladder anew from that."""

from __future__ import annotations

from dataclasses import replace

from sanderling import machine
from sanderling.bundle import Bundle
from sanderling.calibration.admit import KEPT
from sanderling.calibration.choose import race_graphs
from sanderling.calibration.compare import check, compare
from sanderling.calibration.cost import fit_cost
from sanderling.calibration.dataset import Data
from sanderling.calibration.pareto import build_ladder
from sanderling.calibration.profile import Progress, Setting, measure, remeasure
from sanderling.calibration.settle import settle
from sanderling.engine import opener, usable_cores
from sanderling.errors import UnsupportedError
from sanderling.ladder import Ladder, Rung
from sanderling.manifest import FLOAT32, Manifest, Measured, Placement, Trial
from sanderling.opening import same_everywhere
from sanderling.selftest import AS_PLACED, golden_sample
from sanderling.session import Session

METRIC = "agreement with the full model on the self-test's input"
"""What quality means in a bundle whose quality nobody measured."""

EARLIER = "not measured again with the ladder; before: "
"""Starts the verdict of a trial that the last profile left out."""


def reprofile(bundle: Bundle, calls: int, everything: bool, threads: int | None, progress: Progress) -> Measured:
    """Return what a bundle costs on this machine; quality stays as it was measured.

    On another machine than before the engines are compared and chosen again first. Rungs that do not pay here leave the
    ladder; the full model always stays its last rung.

    Args:
        bundle: what to measure.
        calls: of each setting.
        everything: measure every setting that was ever tried, so that one that pays only here can enter the ladder.
        threads: the most worker threads per engine; when given, the engines are chosen again.
        progress: told after every round.

    Raises:
        DriftError: an engine answers wrongly here.
        UnsupportedError: none of the bundle's engines is installed here.
    """
    before = bundle.measured()
    if before is None or not before.ladder.rungs:
        return _first(bundle, calls, threads, progress)
    moved = threads is not None or before.machine != machine.describe()
    here = _placed(bundle, before, threads, progress) if moved else before
    rungs = _measured_before(before, everything)
    found = remeasure(Session(bundle, measured=here), rungs, [golden_sample(bundle)], calls, progress)
    ladder, trials = build_ladder(found, before.ladder.metric)
    again = {_key(rung) for rung in found}
    kept = tuple(_earlier(trial) for trial in before.trials if _key(trial.rung) not in again)
    return replace(here, ladder=ladder, trials=trials + kept, cost_model=fit_cost(bundle.manifest(), found))


def is_earlier(trial: Trial) -> bool:
    """Return whether a trial's latency is of another hour or machine than the ladder's, and cannot be compared."""
    return trial.verdict.startswith(EARLIER)


def usable_targets(manifest: Manifest) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the targets in a bundle that are installed here, and of the others why they are not."""
    known = sorted({variant.target for graph in manifest.graphs for variant in graph.variants})
    missing = {name: reason for name in known if (reason := opener(name).missing()) is not None}
    return tuple(name for name in known if name not in missing), missing


def _measured_before(before: Measured, everything: bool) -> list[Rung]:
    """Return what to measure, the full model first, as `build_ladder` looks for it."""
    tried: list[Trial] = list(before.trials) if everything else []
    ladder = list(reversed(before.ladder.rungs))
    known = {_key(rung) for rung in ladder}
    return ladder + [trial.rung for trial in tried if _key(trial.rung) not in known]


def _placed(bundle: Bundle, before: Measured | None, threads: int | None, progress: Progress) -> Measured:
    """Return measurements with the engines compared and chosen here, and no ladder yet."""
    targets, missing = usable_targets(bundle.manifest())
    if not targets:
        raise UnsupportedError(f"no engine of this bundle is installed: {'; '.join(missing.values())}")
    device, stand_in = _device(before)
    first = Measured(
        device=device,
        machine=machine.describe(),
        stand_in=stand_in,
        threads=threads or usable_cores(),
        placements=same_everywhere(bundle.manifest(), Placement(targets[0], FLOAT32, threads or usable_cores())),
        ladder=Ladder(METRIC if before is None else before.ladder.metric, ()),
    )
    drift = compare(bundle, first, targets, progress)
    check(drift)
    # Quality cannot be judged here, so a lossy format is a candidate only where the compile admitted it.
    decided = () if before is None else before.formats
    kept = {decision.component: decision.format for decision in decided if decision.verdict == KEPT}
    costs = race_graphs(bundle, first, targets, progress, kept)
    placements = settle(bundle, first, costs, kept, progress)
    lossy = () if before is None else tuple(row for row in before.drift if row.target == AS_PLACED)
    return replace(first, placements=placements, drift=drift + lossy, placement_costs=costs, formats=decided)


def _device(before: Measured | None) -> tuple[str, bool]:
    """Return the device's name and whether this machine only stands in for it."""
    here = machine.fitting_device()
    # A device that was named in spite of the machine stays named; the figures are a stand-in's, as they were.
    named = before.device if before is not None and before.stand_in else here
    return named, named != here


def _first(bundle: Bundle, calls: int, threads: int | None, progress: Progress) -> Measured:
    """Return the first measurements of a bundle: every golden case, judged by agreement with the full model."""
    here = _placed(bundle, None, threads, progress)
    settings = [Setting(case.settings, case.graphs) for case in bundle.manifest().golden.cases]
    data = Data([golden_sample(bundle)] * calls, metric=METRIC)
    found = measure(Session(bundle, measured=here), settings, data, progress)
    ladder, trials = build_ladder(found, METRIC)
    return replace(here, ladder=ladder, trials=trials, cost_model=fit_cost(bundle.manifest(), found))


def _earlier(trial: Trial) -> Trial:
    """Return a trial that was not measured again; its quality still holds, so that `everything` can take it up."""
    return trial if is_earlier(trial) else replace(trial, verdict=EARLIER + trial.verdict)


def _key(rung: Rung) -> str:
    return repr((sorted(rung.settings.items()), sorted(rung.graphs.items())))
