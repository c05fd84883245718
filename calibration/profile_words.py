"""A profile in words and tables, for people."""

from __future__ import annotations

from sanderling.calibration.intervals import Interval
from sanderling.calibration.peak import Peak
from sanderling.calibration.profile_file import Profile, RungProfile
from sanderling.conditions import conditions_words
from sanderling.tables import figure, table

TOP = 12
"""Operators that are printed; the file has all."""


def profile_words(profile: Profile) -> str:
    """Return what a profile says, its doubts last."""
    loading = f"libraries {figure(profile.import_ms)} ms, load {figure(profile.load_ms)} ms"
    head = ("rung", "first ms", "p50 ms", "95 % interval", "p90 ms", "p99 ms", "memory MB", "J", "steady")
    lines = [
        f"{profile.model} on {profile.machine['cpu']}; {profile.taken_at}",
        f"before: {conditions_words(profile.before)}",
        f"after:  {conditions_words(profile.after)}",
        f"{loading}, first call {figure(profile.first_ms)} ms; energy {profile.energy_meter}",
        *_peak_words(profile.peak_before, profile.peak_after),
        "",
        table(head, [_row(rung) for rung in profile.rungs]),
        *_operators(profile),
        *(f"doubt: {doubt}" for doubt in profile.doubts),
    ]
    return "\n".join(lines)


def _row(rung: RungProfile) -> tuple[str, ...]:
    latency = rung.latency
    return (
        rung.name,
        figure(rung.first_ms),
        figure(latency.p50.value_ms),
        _interval(latency.p50),
        figure(latency.p90.value_ms),
        figure(latency.p99.value_ms),
        "-" if rung.memory_mb is None else f"{rung.memory_mb:.0f}",
        figure(rung.energy_j),
        "yes" if rung.steadiness.is_steady and rung.warm else "no",
    )


def _interval(interval: Interval) -> str:
    return f"{figure(interval.low_ms)} to {figure(interval.high_ms)}"


def _peak_words(before: Peak | None, after: Peak | None) -> list[str]:
    if before is None or after is None:
        return []
    return [
        f"roofline: {before.matmul_gflop_per_s:.0f} GFLOP/s and {before.copy_gb_per_s:.1f} GB/s before, "
        f"{after.matmul_gflop_per_s:.0f} and {after.copy_gb_per_s:.1f} after (NumPy, float32)"
    ]


def _operators(profile: Profile) -> list[str]:
    if not profile.operators:
        return []
    shown = profile.operators[:TOP]
    rows = [(row.component, row.operator, row.node, figure(row.ms), f"{100 * row.share:.0f} %") for row in shown]
    more = len(profile.operators) - len(shown)
    head = ("component", "operator", "node", "ms", "share")
    return ["", table(head, rows), *([f"  and {more} more"] if more else []), ""]
