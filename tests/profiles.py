"""Profiles of made-up calls, for tests that compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sanderling.budget import Plan
from sanderling.calibration.profile import Record
from sanderling.calibration.profile_file import FORM, Profile
from sanderling.calibration.standalone import rung_profile
from sanderling.calibration.warm_up import WarmUp
from sanderling.conditions import Conditions
from sanderling.manifest import FULL


def made_up(calls_ms: Mapping[int, Sequence[float]], components: Sequence[str] = ("look",)) -> Profile:
    """Return a profile with a rung for every number of tokens; each component takes an equal share of every call."""
    rungs = []
    for tokens, spent_ms in calls_ms.items():
        shares = {name: [ms / len(components) for ms in spent_ms] for name in components}
        record = Record(spent_ms=list(spent_ms), components_ms=shares)
        plan = Plan({"tokens": tokens}, {"look": FULL}, None, None, "made up")
        rungs.append(rung_profile(plan, record, WarmUp(spent_ms[0], 11, True)))
    return Profile(
        form=FORM,
        versions={},
        taken_at="2026-01-01T00:00:00+00:00",
        model="made up",
        bundle_digest="",
        content_digest="",
        device="x86_64",
        machine={"cpu": "made up"},
        placements={},
        import_ms=0.0,
        load_ms=0.0,
        first_ms=0.0,
        before=Conditions(),
        after=Conditions(),
        peak_before=None,
        peak_after=None,
        cooled_s=None,
        energy_meter="not available: made up",
        rungs=tuple(rungs),
        operators=(),
        doubts=(),
    )
