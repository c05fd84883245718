"""Profiles that stand alone, taken of a bundle of a few nodes, and the verb that writes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command import sanderling
from toy_bundle import HERE, PLACEMENTS, toy_measured, write_toy

from sanderling.bundle import MEASURED, Bundle, replace_member, write_bundle
from sanderling.calibration import standalone
from sanderling.calibration.operators import find_operators
from sanderling.calibration.profile_file import Profile, read_profile
from sanderling.calibration.standalone import Asked, content_digest, take_profile
from sanderling.codec import to_json
from sanderling.conditions import Conditions
from sanderling.errors import BundleError, CheckFailedError, InputError, UnknownNameError, UnsupportedError
from sanderling.manifest import FULL, Placement, Trial
from sanderling.session import Session


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write_toy(tmp_path / "toy.sand")


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


def take(path: Path, **asked: object) -> Profile:
    return take_profile(path, Asked(calls=8, **asked), silent)  # type: ignore[arg-type]


def test_a_profile_says_what_was_called_and_what_it_cost(toy: Path) -> None:
    before = toy.read_bytes()
    found = take(toy)
    assert [rung.settings["tokens"] for rung in found.rungs] == [2, 4, 8]
    assert [len(rung.samples_ms) for rung in found.rungs] == [8, 8, 8]
    for rung in found.rungs:
        assert min(rung.samples_ms) <= rung.latency.p50.value_ms <= rung.latency.p90.value_ms <= max(rung.samples_ms)
        assert rung.latency.p99.high_ms is None, "eight calls have no upper end for their 99th percentile"
        assert rung.first_ms > 0
        assert set(rung.components) == {"look"}
    assert found.first_ms == found.rungs[-1].first_ms
    assert min(found.import_ms, found.load_ms) > 0
    assert found.versions["sanderling"]
    assert found.operators == ()
    assert (found.peak_before, found.cooled_s) == (None, None)
    assert toy.read_bytes() == before


def test_everything_takes_settings_outside_the_ladder_too(tmp_path: Path) -> None:
    measured = toy_measured()
    first, *rest = measured.ladder.rungs
    smaller = replace(measured, ladder=replace(measured.ladder, rungs=tuple(rest)), trials=(Trial(first, "too slow"),))
    toy = write_toy(tmp_path / "toy.sand", measured=smaller)
    assert len(take(toy).rungs) == 2
    assert len(take(toy, everything=True).rungs) == 3


def test_the_roofline_is_measured_when_asked_for(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sanderling.calibration.peak import Peak

    monkeypatch.setattr(standalone, "measure_peak", lambda: Peak(10.0, 1.0))
    found = take(toy, roofline=True)
    assert found.peak_before == found.peak_after == Peak(10.0, 1.0)


def test_a_machine_too_hot_is_refused_before_any_call(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hot = Conditions(temperatures_c={"cpu": 90.0})
    monkeypatch.setattr("sanderling.calibration.thermal_gate.read_conditions", lambda: hot)
    with pytest.raises(CheckFailedError, match=r"90\.0 °C"):
        take(toy, cool_below_c=60.0, wait_s=0.0)
    assert take(toy, cool_below_c=95.0, wait_s=0.0).cooled_s is not None


def test_doubts_are_told(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([Conditions(governors=("performance",)), Conditions(governors=("powersave",))])
    monkeypatch.setattr(standalone, "read_conditions", lambda: next(states))
    doubts = take(toy).doubts
    assert "the governor changed from performance to powersave" in doubts
    assert any("chosen on another machine" in doubt for doubt in doubts), "the toy's machine is made up"


def test_the_digest_of_the_content_is_the_same_whatever_was_measured(toy: Path) -> None:
    with Bundle.open(toy) as bundle:
        before, whole = content_digest(bundle), bundle.digest
    replace_member(toy, MEASURED, to_json(toy_measured(((8, 1.0, 1.0),))))
    with Bundle.open(toy) as bundle:
        assert content_digest(bundle) == before
        assert bundle.digest != whole


def test_too_few_calls_are_refused(toy: Path) -> None:
    with pytest.raises(InputError, match="5 calls of each rung, expected at least 6"):
        take_profile(toy, Asked(calls=5), silent)


def test_a_bundle_without_a_ladder_is_refused(toy: Path) -> None:
    with Bundle.open(toy) as bundle:
        members = {name: bytes(bundle.read(name)) for name in bundle.names() if name != MEASURED}
    write_bundle(toy, members)
    with pytest.raises(BundleError, match="holds no ladder yet; run `sanderling profile"):
        take(toy)


class TestOperators:
    def test_every_component_that_runs(self, toy: Path) -> None:
        found = take(toy, operators="").operators
        assert [(row.component, row.graph, row.operator) for row in found] == [("look", FULL, "MatMul")]
        assert found[0].share == pytest.approx(1.0)
        assert take(toy, operators="look").operators[0].node == found[0].node

    def test_a_component_that_is_not_there_or_does_not_run(self, toy: Path) -> None:
        with pytest.raises(UnknownNameError, match="unknown component 'loo'; did you mean 'look'"):
            take(toy, operators="loo")
        with pytest.raises(InputError, match=r"'read' does not run on the self-test's input.*those that do: look"):
            take(toy, operators="read")

    def test_a_target_without_a_profiler(self, toy: Path) -> None:
        with Session(Bundle.open(toy)) as session:
            elsewhere = {**PLACEMENTS, "look": {**PLACEMENTS["look"], FULL: Placement("reference", HERE.format, 1)}}
            measured = replace(session.measured, placements=elsewhere)
            with pytest.raises(UnsupportedError, match=r"runs on reference.*those with one: onnxruntime, openvino"):
                find_operators(session, measured, None, silent)


class TestVerb:
    def test_writes_a_profile_and_leaves_the_bundle(self, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before, output = toy.read_bytes(), toy.parent / "profile.json"
        result = sanderling(capsys, "profile", toy, "--output", output, "--calls", "6", "--operators", "look")
        assert result.code == 0
        for words in ("95 % interval", "first call", "MatMul", "energy", f"written to {output}"):
            assert words in result.out
        assert toy.read_bytes() == before
        assert len(read_profile(output).operators) == 1
        again = sanderling(capsys, "profile", toy, "--output", output, "--calls", "7", "--json")
        assert again.json == json.loads(output.read_text())
        assert sanderling(capsys, "diff", output, output).code == 0

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--operators"], "--operators goes into a profile of its own"),
            (["--roofline"], "--roofline goes into a profile of its own"),
            (["--wait", "5"], "--cool-below, which is not given"),
            (["--output", "p.json", "--threads", "1"], "--threads 1` first"),
            (["--output", "absent/p.json"], "there is no folder absent"),
            (["--cool-below", "hot"], "not a temperature"),
            (["--cool-below", "60", "--wait", "-1"], "not a number of seconds"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_options_that_would_change_nothing_are_refused(
        self, options: list[str], said: str, toy: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = toy.read_bytes()
        result = sanderling(capsys, "profile", toy, *options)
        assert result.code == 2
        assert said in result.err or "expected one argument" in result.err
        assert toy.read_bytes() == before

    def test_the_gate_holds_without_an_output_too(
        self, toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hot = Conditions(temperatures_c={"cpu": 90.0})
        monkeypatch.setattr("sanderling.calibration.thermal_gate.read_conditions", lambda: hot)
        result = sanderling(capsys, "profile", toy, "--cool-below", "60", "--wait", "0", "--dry-run")
        assert (result.code, "asked for at most 60" in result.err) == (1, True)
