"""Takes a profile that stands alone: everything an engineer needs to believe the figures, in one file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import sanderling
from sanderling import machine
from sanderling.budget import Plan
from sanderling.bundle import MEASURED, Bundle
from sanderling.calibration.dataset import Sample
from sanderling.calibration.intervals import LEAST_CALLS, Interval, percentile_interval, steadiness
from sanderling.calibration.operators import ALL, find_operators
from sanderling.calibration.peak import measure_peak
from sanderling.calibration.profile import Progress, Record, call_in_turn, memory_and_energy
from sanderling.calibration.profile_file import FORM, OperatorRow, Percentiles, Profile, RungProfile
from sanderling.calibration.thermal_gate import wait_until_cool
from sanderling.calibration.warm_up import WarmUp, warm_up
from sanderling.conditions import changes, read_conditions
from sanderling.engine import opener, usable_cores
from sanderling.errors import BundleError, InputError
from sanderling.ladder import Rung
from sanderling.manifest import Measured
from sanderling.meter import NoMeter, find_energy_meter
from sanderling.selftest import golden_sample
from sanderling.session import Session


@dataclass(frozen=True)
class Asked:
    """How to profile.

    Attributes:
        calls: of each rung that count.
        everything: every setting that was ever tried, and not the ladder's alone.
        operators: a component whose operators to time, `operators.ALL` for each, None for none.
        roofline: measure what the machine can do at most, before and after.
        cool_below_c: start only at or below so many degrees Celsius; None to start at once.
        wait_s: for the machine to cool.
    """

    calls: int = 60
    everything: bool = False
    operators: str | None = None
    roofline: bool = False
    cool_below_c: float | None = None
    wait_s: float = 300.0


def take_profile(path: Path, asked: Asked, progress: Progress) -> Profile:
    """Return a profile of a bundle's ladder on this machine; the bundle stays as it is.

    Args:
        path: of the bundle.
        asked: how.
        progress: told what is going on.

    Raises:
        InputError: too few calls to say anything about their median.
        BundleError: the bundle holds no ladder yet.
        MissingExtraError: an engine is not installed.
        CheckFailedError: the machine does not cool down.
    """
    if asked.calls < LEAST_CALLS:
        raise InputError(
            f"{asked.calls} calls of each rung, expected at least {LEAST_CALLS}: the median of fewer has no interval"
        )
    with Bundle.open(path) as bundle:
        measured = bundle.measured()
    if measured is None or not measured.ladder.rungs:
        raise BundleError(f"{path} holds no ladder yet; run `sanderling profile {path}` first")
    cooled_s = None
    if asked.cool_below_c is not None:
        cooled_s = wait_until_cool(asked.cool_below_c, asked.wait_s, progress)
    import_ms = _import_engines(measured)
    begun = perf_counter()
    with sanderling.load(path) as session:
        load_ms = (perf_counter() - begun) * 1e3
        return _profile(session, measured, asked, progress, (cooled_s, import_ms, load_ms))


def _profile(
    session: Session, measured: Measured, asked: Asked, progress: Progress, began: tuple[float | None, float, float]
) -> Profile:
    cooled_s, import_ms, load_ms = began
    sample = golden_sample(session.bundle)
    rungs = _rungs(measured, asked.everything)
    plans = [session.at(rung.settings, rung.graphs) for rung in rungs]
    # The full model goes first, so that `first_ms` is its.
    order = sorted(range(len(plans)), key=lambda place: rungs[place] is not measured.ladder.rungs[-1])
    warm: dict[int, WarmUp] = {}
    for done, place in enumerate(order, start=1):
        warm[place] = _warmed(session, plans[place], sample)
        progress("warming up", done, len(order))
    peak_before = measure_peak() if asked.roofline else None
    before = read_conditions()
    records = call_in_turn(session, plans, [sample], asked.calls, progress)
    after = read_conditions()
    peak_after = measure_peak() if asked.roofline else None
    uses = memory_and_energy(session, plans, sample)
    found = tuple(
        rung_profile(plan, record, warm[place], use)
        for place, (plan, record, use) in enumerate(zip(plans, records, uses, strict=True))
    )
    meter = find_energy_meter()
    return Profile(
        form=FORM,
        versions={"sanderling": sanderling.__version__},
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        model=session.manifest.model.name,
        bundle_digest=session.bundle.digest,
        content_digest=content_digest(session.bundle),
        device=measured.device,
        machine=machine.describe(),
        placements=measured.placements,
        import_ms=import_ms,
        load_ms=load_ms,
        first_ms=warm[order[0]].first_ms,
        before=before,
        after=after,
        peak_before=peak_before,
        peak_after=peak_after,
        cooled_s=cooled_s,
        energy_meter=f"not available: {meter.reason}" if isinstance(meter, NoMeter) else meter.name,
        rungs=found,
        operators=_operators(session, measured, asked, progress),
        doubts=(*changes(before, after, usable_cores()), *_unsteady(found), *_moved(measured)),
    )


def _warmed(session: Session, plan: Plan, sample: Sample) -> WarmUp:
    return warm_up(lambda: session.run(sample, plan=plan).receipt.spent_ms)


def _operators(session: Session, measured: Measured, asked: Asked, progress: Progress) -> tuple[OperatorRow, ...]:
    if asked.operators is None:
        return ()
    return find_operators(session, measured, None if asked.operators == ALL else asked.operators, progress)


def rung_profile(
    plan: Plan, record: Record, warm: WarmUp, use: tuple[float | None, float | None] = (None, None)
) -> RungProfile:
    """Return what calls of one rung say.

    Args:
        plan: that was called.
        record: of the calls.
        warm: how warming up went.
        use: peak memory in MB and energy in J.
    """
    return RungProfile(
        settings=plan.settings,
        graphs=plan.graphs,
        first_ms=warm.first_ms,
        warm_up_calls=warm.calls,
        warm=warm.steady,
        latency=percentiles(record.spent_ms),
        components={name: percentiles(spent_ms) for name, spent_ms in record.components_ms.items()},
        samples_ms=tuple(round(ms, 6) for ms in record.spent_ms),  # nanoseconds, which no clock here resolves
        steadiness=steadiness(record.spent_ms),
        memory_mb=use[0],
        energy_j=use[1],
    )


def percentiles(milliseconds: Sequence[float]) -> Percentiles:
    """Return the 50th, 90th and 99th percentile of calls, with their intervals."""
    found: list[Interval] = [percentile_interval(milliseconds, percentile) for percentile in (50, 90, 99)]
    return Percentiles(*found)


def content_digest(bundle: Bundle) -> str:
    """Return the sha256 of every member but the measurements, in hexadecimal."""
    digest = hashlib.sha256()
    for name in bundle.names():
        if name != MEASURED:
            digest.update(f"{name}\0{hashlib.sha256(bundle.read(name)).hexdigest()}\0".encode())
    return digest.hexdigest()


def _rungs(measured: Measured, everything: bool) -> list[Rung]:
    ladder = list(measured.ladder.rungs)
    return ladder + [trial.rung for trial in measured.trials if everything and trial.rung not in ladder]


def _import_engines(measured: Measured) -> float:
    """Return the milliseconds it takes to load the engines' libraries, which a later load finds in the process."""
    begun = perf_counter()
    for target in sorted({way.target for graphs in measured.placements.values() for way in graphs.values()}):
        opener(target).missing()  # looks by importing; what is missing is told when the graph is opened
    return (perf_counter() - begun) * 1e3


def _unsteady(rungs: Sequence[RungProfile]) -> list[str]:
    cold = [rung.name for rung in rungs if not rung.warm]
    drifting = [rung for rung in rungs if not rung.steadiness.is_steady]
    told = [f"not steady after the longest warm-up: {'; '.join(cold)}"] if cold else []
    return told + [
        f"{rung.name}: medians of its thirds differ by {100 * rung.steadiness.spread:.0f} %, "
        f"allowed {100 * rung.steadiness.band:.0f} %"
        for rung in drifting
    ]


def _moved(measured: Measured) -> list[str]:
    if measured.machine == machine.describe():
        return []
    return [
        "the bundle's engines were chosen on another machine or with other versions; `sanderling profile` without "
        "--output chooses them here"
    ]
