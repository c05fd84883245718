"""Compares two profiles rung by rung, and calls slower only what their own noise does not explain.

A rung is slower when the interval of its percentile after lies wholly above the one before. Each interval is the
non-parametric one of `intervals.percentile_interval`, stretched by the spread of its own profile's thirds
(`intervals.widened`). Two 95 % intervals that do not touch are a stricter test than 5 %: about 0.5 % for two profiles
of the same spread (N. Schenker and J. F. Gentleman, On judging the significance of differences by examining the
overlap between confidence intervals, The American Statistician 55(3), 2001), so that a dozen rungs seldom raise a false
alarm between them.

The stretch covers drift that all rungs share, as they do because they take turns. Where each rung wanders for itself by
some percent within a profile, about one pair of profiles in five is flagged though nothing changed (by simulation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sanderling.calibration.intervals import Interval, calls_needed, percentile_interval, widened
from sanderling.calibration.profile_file import Profile, RungProfile
from sanderling.errors import InputError

METHOD = (
    "95 % order-statistic intervals, stretched by the spread of each profile's thirds; a rung differs where they "
    "do not touch"
)

PEAK_BAND = 0.05
"""Share by which the machine's own peak may differ before it is a doubt."""

Verdict = Literal["slower", "faster", "same"]


@dataclass(frozen=True)
class RungChange:
    """One rung in two profiles.

    Attributes:
        name: of the rung.
        before: its percentile and noise band then.
        after: and now.
        change: now over then, minus 1.
        band: the smallest slowdown, as a share, that would have been told from noise.
        verdict: what to make of it.
        components: those whose medians changed in the same direction beyond their intervals.
    """

    name: str
    before: Interval
    after: Interval
    change: float
    band: float
    verdict: Verdict
    components: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two profiles, compared.

    Attributes:
        percentile: that was compared.
        rows: one per rung that both have, in the order of the second.
        only_before: rungs that the second lacks.
        only_after: rungs that the first lacks.
        doubts: what besides the code may have changed.
        method: how, in words.
    """

    percentile: int
    rows: tuple[RungChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    doubts: tuple[str, ...]
    method: str = METHOD

    @property
    def slower(self) -> tuple[RungChange, ...]:
        """The rungs that are slower beyond noise."""
        return tuple(row for row in self.rows if row.verdict == "slower")


def compare_profiles(before: Profile, after: Profile, percentile: int = 50, allow_percent: float = 0.0) -> Comparison:
    """Return what changed from one profile to another.

    Args:
        before: the profile to hold against.
        after: the one to judge.
        percentile: to compare; higher ones need more calls.
        allow_percent: a slowdown up to so much is none.

    Raises:
        InputError: no rung is in both, or there are too few calls for an interval of the percentile.
    """
    then = {rung.name: rung for rung in before.rungs}
    now = {rung.name: rung for rung in after.rungs}
    both = [name for name in now if name in then]
    if not both:
        raise InputError(
            f"the profiles have no rung in common: {'; '.join(then)} in the first, {'; '.join(now)} in the second; "
            "take both of bundles with the same ladder"
        )
    return Comparison(
        percentile,
        tuple(_change(then[name], now[name], percentile, allow_percent / 100) for name in both),
        tuple(name for name in then if name not in now),
        tuple(name for name in now if name not in then),
        _doubts(before, after),
    )


def _change(then: RungProfile, now: RungProfile, percentile: int, allow: float) -> RungChange:
    before, before_low, before_high = _band(then, percentile)
    after, after_low, after_high = _band(now, percentile)
    verdict: Verdict = "same"
    if after_low > before_high * (1 + allow):
        verdict = "slower"
    elif after_high < before_low:
        verdict = "faster"
    return RungChange(
        now.name,
        Interval(before, before_low, before_high),
        Interval(after, after_low, after_high),
        after / before - 1,
        # Were all of `after` slower by a factor, its lower end would rise by the same.
        max(allow, (before_high * (1 + allow) / before) * (after / after_low) - 1),
        verdict,
        _blamed(then, now, verdict),
    )


def _band(rung: RungProfile, percentile: int) -> tuple[float, float, float]:
    """Return a rung's percentile and the two ends of its noise band."""
    found = widened(percentile_interval(rung.samples_ms, percentile), rung.steadiness)
    if found.low_ms is None or found.high_ms is None:
        raise InputError(
            f"{rung.name} has {len(rung.samples_ms)} calls, too few for an interval of p{percentile}; expected at "
            f"least {calls_needed(percentile)}: profile with --calls {calls_needed(percentile)}"
        )
    return found.value_ms, found.low_ms, found.high_ms


def _blamed(then: RungProfile, now: RungProfile, verdict: Verdict) -> tuple[str, ...]:
    if verdict == "same":
        return ()
    blamed = []
    for name in now.components.keys() & then.components.keys():
        slow, quick = now.components[name].p50, then.components[name].p50
        if verdict == "faster":
            slow, quick = quick, slow
        if slow.low_ms is not None and quick.high_ms is not None and slow.low_ms > quick.high_ms:
            blamed.append(name)
    return tuple(sorted(blamed))


def _doubts(before: Profile, after: Profile) -> tuple[str, ...]:
    found = []
    changed = [
        f"{name} {before.machine.get(name, 'none')} -> {after.machine.get(name, 'none')}"
        for name in sorted(before.machine.keys() | after.machine.keys())
        if before.machine.get(name) != after.machine.get(name)
    ]
    if changed:
        found.append(f"the machine or an engine differs: {'; '.join(changed)}")
    if before.content_digest != after.content_digest:
        found.append("the bundles differ in more than their measurements")
    if before.placements != after.placements:
        found.append("graphs run on other engines, formats or threads")
    found += _peak_doubts(before, after)
    found += [f"first profile: {doubt}" for doubt in before.doubts]
    return (*found, *(f"second profile: {doubt}" for doubt in after.doubts))


def _peak_doubts(before: Profile, after: Profile) -> Sequence[str]:
    if before.peak_before is None or after.peak_before is None:
        return []
    was, now = before.peak_before.matmul_gflop_per_s, after.peak_before.matmul_gflop_per_s
    if abs(now / was - 1) <= PEAK_BAND:
        return []
    return [f"the machine itself went from {was:.0f} to {now:.0f} GFLOP/s in matrix products"]
