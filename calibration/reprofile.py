"""Measures a bundle again on the machine it is on now, and builds its ladder anew from that."""

from __future__ import annotations

from dataclasses import replace

from sanderling import machine
from sanderling.bundle import Bundle
from sanderling.calibration.dataset import Data
from sanderling.calibration.pareto import build_ladder
from sanderling.calibration.profile import Progress, Setting, measure, remeasure
from sanderling.engine import opener, usable_cores
from sanderling.errors import UnsupportedError
from sanderling.ladder import Ladder
from sanderling.manifest import FULL, Manifest, Measured, Trial
from sanderling.selftest import golden_sample
from sanderling.session import Session

METRIC = "agreement with the full model on the self-test's input"
"""What quality means in a bundle whose quality nobody measured."""


def reprofile(bundle: Bundle, calls: int, everything: bool, threads: int | None, progress: Progress) -> Measured:
    """Return what a bundle costs on this machine; quality stays as it was measured.

    Rungs that do not pay here leave the ladder; the full model always stays its last rung. A bundle without
    measurements gets its first: every golden case, judged by agreement with the full model.

    Args:
        bundle: what to measure.
        calls: of each setting.
        everything: measure every setting that was ever tried, so that one that pays only here can enter the ladder.
        threads: worker threads per engine; as before when None.
        progress: told after every round.
    """
    before = bundle.measured()
    if before is None or not before.ladder.rungs:
        return _first(bundle, calls, threads, progress)
    before = replace(before, threads=threads or before.threads)
    tried = [trial.rung for trial in before.trials] if everything else []
    rungs = tried or list(reversed(before.ladder.rungs))  # the full model first, as `build_ladder` looks for it
    found = remeasure(Session(bundle, measured=before), rungs, [golden_sample(bundle)], calls, progress)
    ladder, trials = build_ladder(found, before.ladder.metric)
    return _moved_here(replace(before, ladder=ladder, trials=trials), before)


def _moved_here(now: Measured, before: Measured) -> Measured:
    """Return the measurements with this machine's name on them, and without what another machine measured."""
    here = machine.fitting_device()
    # A device that was named in spite of the machine stays named; the figures are a stand-in's, as they were.
    device = before.device if before.stand_in else here
    now = replace(now, device=device, stand_in=device != here, machine=machine.describe())
    if now.machine != before.machine:
        return replace(now, drift=(), target_costs=())
    again = {_key(trial) for trial in now.trials}
    return replace(now, trials=now.trials + tuple(trial for trial in before.trials if _key(trial) not in again))


def _key(trial: Trial) -> str:
    return repr((sorted(trial.rung.settings.items()), sorted(trial.rung.graphs.items())))


def _first(bundle: Bundle, calls: int, threads: int | None, progress: Progress) -> Measured:
    manifest, here = bundle.manifest(), machine.fitting_device()
    first = Measured(
        device=here,
        machine=machine.describe(),
        stand_in=False,
        threads=threads or usable_cores(),
        targets={component.name: _usable_target(manifest, component.name) for component in manifest.model.components},
        ladder=Ladder(METRIC, ()),
    )
    settings = [Setting(case.settings, case.graphs) for case in manifest.golden.cases]
    data = Data([golden_sample(bundle)] * calls, metric=METRIC)
    ladder, trials = build_ladder(measure(Session(bundle, measured=first), settings, data, progress), METRIC)
    return replace(first, ladder=ladder, trials=trials)


def _usable_target(manifest: Manifest, component: str) -> str:
    """Return the first target in the bundle that is installed here."""
    missing = []
    for variant in manifest.graph(component, FULL).variants:
        reason = opener(variant.target).missing()
        if reason is None:
            return variant.target
        missing.append(reason)
    raise UnsupportedError(f"no engine for component {component!r} is installed: {'; '.join(missing)}")
