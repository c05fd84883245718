"""Comparing profiles: a true slowdown is flagged, noise is not, whatever the noise looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import sanderling
from profiles import made_up

from sanderling.calibration.diff import compare_profiles
from sanderling.calibration.peak import Peak
from sanderling.calibration.profile_file import Profile, read_profile, write_profile
from sanderling.errors import InputError, UserError

Noise = Callable[[np.random.Generator, int], np.ndarray]

RUNGS = {4: 2.0, 8: 3.0, 16: 5.0, 32: 9.0}
"""Tokens -> median milliseconds."""

REPEATS = 100


def gaussian(rng: np.random.Generator, count: int) -> np.ndarray:
    return 1 + 0.03 * rng.standard_normal(count)


def lognormal(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.lognormal(0, 0.06, count)


def heavy_tailed(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return mostly quiet calls, and one in ten that something else stretched by a factor without a mean."""
    stretched = np.where(rng.random(count) < 0.1, 1 + rng.pareto(0.9, count), 1.0)
    return np.asarray(rng.lognormal(0, 0.03, count) * stretched)


def two_speeds(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return calls on a processor that boosts for some of them."""
    return np.where(rng.random(count) < 0.7, 1.0, 1.25) * rng.lognormal(0, 0.01, count)


def drifting(rng: np.random.Generator, factor: float = 1.0, count: int = 200) -> Profile:
    """Return a profile whose level wanders, so that neighbouring calls are alike.

    All rungs share the wandering, as they do when they take turns. Where each wandered for itself, about one pair of
    profiles in five would be flagged: see the docstring of `calibration.diff`.
    """
    level = np.exp(np.cumsum(rng.standard_normal(count)) * 0.03 / np.sqrt(count))
    return made_up({tokens: list(factor * ms * level * rng.lognormal(0, 0.02, count)) for tokens, ms in RUNGS.items()})


def profile(rng: np.random.Generator, noise: Noise, factor: float = 1.0, count: int = 200) -> Profile:
    return made_up({tokens: list(factor * ms * noise(rng, count)) for tokens, ms in RUNGS.items()})


def flagged(noise: Noise, factor: float, seed: int) -> list[int]:
    """Return how many rungs were called slower in each repeat."""
    rng = np.random.default_rng(seed)
    return [len(compare_profiles(profile(rng, noise), profile(rng, noise, factor)).slower) for _ in range(REPEATS)]


@pytest.mark.parametrize("noise", [gaussian, lognormal, heavy_tailed, two_speeds])
def test_nine_of_ten_repeats_of_one_distribution_agree(noise: Noise) -> None:
    agreeing = flagged(noise, 1.0, seed=3).count(0)
    assert agreeing >= 0.9 * REPEATS


@pytest.mark.parametrize("noise", [gaussian, lognormal, heavy_tailed, two_speeds])
def test_a_true_slowdown_of_ten_percent_is_flagged(noise: Noise) -> None:
    counts = flagged(noise, 1.1, seed=4)
    assert counts.count(0) <= 0.05 * REPEATS
    assert sum(counts) >= 0.9 * len(RUNGS) * REPEATS, "and on nearly every rung"


def agreeing_though_drifting() -> int:
    rng = np.random.default_rng(3)
    return sum(not compare_profiles(drifting(rng), drifting(rng)).slower for _ in range(REPEATS))


def test_nine_of_ten_repeats_agree_while_the_machine_drifts() -> None:
    agreeing = agreeing_though_drifting()
    assert agreeing >= 0.9 * REPEATS


def test_the_stretch_is_what_keeps_drift_from_being_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sanderling.calibration.diff.widened", lambda interval, steady: interval)
    agreeing = agreeing_though_drifting()
    assert agreeing < 0.9 * REPEATS


def test_a_slowdown_is_told_from_noise_once_it_is_larger_than_the_band_says() -> None:
    rng = np.random.default_rng(5)
    before, calls = profile(rng, lognormal), profile(rng, lognormal)

    def slowed(factor: float) -> Profile:
        return made_up({rung.settings["tokens"]: [factor * ms for ms in rung.samples_ms] for rung in calls.rungs})

    for row in compare_profiles(before, calls).rows:
        reach = (1 + row.band) / (1 + row.change)
        verdicts = [
            next(r.verdict for r in compare_profiles(before, slowed(factor)).rows if r.name == row.name)
            for factor in (0.999 * reach, 1.001 * reach)
        ]
        assert verdicts == ["same", "slower"]


def test_faster_is_no_failure_and_the_component_is_named() -> None:
    rng = np.random.default_rng(6)
    before, after = profile(rng, gaussian), profile(rng, gaussian, 0.8)
    found = compare_profiles(before, after)
    assert {row.verdict for row in found.rows} == {"faster"}
    assert found.slower == ()
    assert all(row.components == ("look",) for row in found.rows)
    assert all(row.components == ("look",) for row in compare_profiles(after, before).slower)


def test_a_slowdown_that_is_allowed_is_none() -> None:
    rng = np.random.default_rng(7)
    before, after = profile(rng, gaussian), profile(rng, gaussian, 1.1)
    assert len(compare_profiles(before, after, allow_percent=3).slower) == len(RUNGS)
    assert compare_profiles(before, after, allow_percent=12).slower == ()


def test_a_slow_tail_shows_at_the_percentile_where_it_is() -> None:
    rng = np.random.default_rng(8)
    quiet = [float(ms) for ms in gaussian(rng, 200)]
    tail = [1.5 * ms if place % 5 == 0 else ms for place, ms in enumerate(quiet)]
    before, after = made_up({4: quiet}), made_up({4: tail})
    assert compare_profiles(before, after, 50).slower == ()
    assert len(compare_profiles(before, after, 90).slower) == 1


def test_too_few_calls_for_a_percentile_say_how_many_are_needed() -> None:
    few = profile(np.random.default_rng(9), gaussian, count=60)
    with pytest.raises(
        InputError, match=r"60 calls, too few for an interval of p99; expected at least 368.*--calls 368"
    ):
        compare_profiles(few, few, 99)


def test_rungs_of_one_profile_alone_are_told() -> None:
    before, after = made_up({4: [1.0] * 9, 8: [2.0] * 9}), made_up({8: [2.0] * 9, 16: [3.0] * 9})
    found = compare_profiles(before, after)
    assert ([row.name for row in found.rows], found.only_before, found.only_after) == (
        ["full tokens=8"],
        ("full tokens=4",),
        ("full tokens=16",),
    )
    with pytest.raises(InputError, match="no rung in common: full tokens=4 in the first, full tokens=16 in the second"):
        compare_profiles(made_up({4: [1.0] * 9}), made_up({16: [1.0] * 9}))


def test_what_else_changed_is_a_doubt() -> None:
    before = replace(made_up({4: [1.0] * 9}), peak_before=Peak(100.0, 10.0), doubts=("warm",))
    after = replace(before, peak_before=Peak(80.0, 10.0), machine={"cpu": "other"}, content_digest="x", doubts=("hot",))
    assert compare_profiles(before, before).doubts == ("first profile: warm", "second profile: warm")
    assert compare_profiles(before, after).doubts == (
        "the machine or an engine differs: cpu made up -> other",
        "the bundles differ in more than their measurements",
        "the machine itself went from 100 to 80 GFLOP/s in matrix products",
        "first profile: warm",
        "second profile: hot",
    )
    placed = replace(before, placements={"look": {}})
    assert "graphs run on other engines, formats or threads" in compare_profiles(before, placed).doubts


class TestVerb:
    @pytest.fixture
    def files(self, tmp_path: Path) -> tuple[Path, Path, Path]:
        rng = np.random.default_rng(10)
        paths = (tmp_path / "before.json", tmp_path / "again.json", tmp_path / "slow.json")
        for path, factor in zip(paths, (1, 1, 1.1), strict=True):
            write_profile(path, profile(rng, lognormal, factor))
        return paths

    def test_exit_codes(self, files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        before, again, slow = files
        same = sanderling(capsys, "diff", before, again)
        assert (same.code, "no rung is slower beyond noise" in same.out) == (0, True)
        slower = sanderling(capsys, "diff", before, slow)
        assert (slower.code, "4 of 4 rungs slower" in slower.out, "slower (look)" in slower.out) == (1, True, True)
        assert sanderling(capsys, "diff", before, slow, "--allow-percent", "20").code == 0
        assert sanderling(capsys, "diff", before, slow, "--percentile", "90", "--json").json["percentile"] == 90

    def test_json(self, files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        result = sanderling(capsys, "diff", files[0], files[2], "--json")
        assert result.code == 1
        assert result.json["slower"] == [f"full tokens={tokens}" for tokens in RUNGS]
        assert result.json["rows"][0]["before"]["low_ms"] < result.json["rows"][0]["before"]["value_ms"]

    @pytest.mark.parametrize("percent", ["-1", "much", "nan"])
    def test_odd_percentages_are_refused(
        self, percent: str, files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = sanderling(capsys, "diff", *files[:2], "--allow-percent", percent)
        assert (result.code, "not a percentage" in result.err or "expected one" in result.err) == (2, True)


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = profile(np.random.default_rng(11), heavy_tailed)
    write_profile(tmp_path / "profile.json", written)
    assert read_profile(tmp_path / "profile.json") == written


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot read"), (b"no json", "is not JSON"), (b"{}", "missing fields"), (b"\xff\xfe", "is not JSON")],
    ids=["absent", "text", "empty", "bytes"],
)
def test_a_file_that_is_no_profile(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as raised:
        read_profile(path)
    assert "sanderling profile" in str(raised.value)


def test_a_profile_of_another_form(tmp_path: Path) -> None:
    write_profile(tmp_path / "profile.json", replace(made_up({4: [1.0] * 9}), form="sanderling profile 0"))
    with pytest.raises(InputError, match="of the form 'sanderling profile 0', expected 'sanderling profile 1'"):
        read_profile(tmp_path / "profile.json")


def test_a_profile_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        write_profile(tmp_path / "absent/profile.json", made_up({4: [1.0] * 9}))
