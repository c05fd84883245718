"""The verbs that measure: profile, compare, report."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from command import sanderling

from sanderling.bundle import MEASURED, Bundle, array_bytes, read_array, replace_member, write_bundle
from sanderling.calibration import reprofile
from sanderling.codec import to_json
from sanderling.manifest import Measured


def measured_of(path: Path) -> Measured:
    with Bundle.open(path) as bundle:
        found = bundle.measured()
    assert found is not None
    return found


def change_measured(path: Path, change: Callable[[Measured], Measured]) -> None:
    replace_member(path, MEASURED, to_json(change(measured_of(path))))


class TestProfile:
    def test_measures_again_and_keeps_quality_and_the_full_model(
        self, laddered: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = measured_of(laddered)
        result = sanderling(capsys, "profile", laddered, "--calls", "5", "--json")
        assert result.code == 0
        after = measured_of(laddered)
        assert after.ladder.rungs[-1].graphs == {"vision": "full"}
        # The made-up ladder says 10 ms; a model of 16 tokens takes a fraction of that anywhere.
        assert after.ladder.rungs[-1].latency.p50_ms < 10
        assert after.ladder.rungs[-1].latency.samples == 5
        quality = {str(rung.graphs): rung.quality for rung in before.ladder.rungs}
        assert all(trial.rung.quality == quality[str(trial.rung.graphs)] for trial in after.trials)
        costs = [rung.latency.p50_ms for rung in after.ladder.rungs[:-1]]
        assert costs == sorted(costs)
        assert len(result.json["before"]) == 3
        assert result.json["written"] is True
        with Bundle.open(laddered) as bundle:
            bundle.verify()

    def test_dry_run_leaves_the_bundle_as_it_is(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = laddered.read_bytes()
        result = sanderling(capsys, "profile", laddered, "--calls", "2", "--dry-run")
        assert result.code == 0
        assert "left as it is" in result.out
        assert laddered.read_bytes() == before

    def test_all_measures_what_is_not_in_the_ladder_too(
        self, laddered: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        change_measured(laddered, _only_full_in_ladder)
        assert sanderling(capsys, "profile", laddered, "--calls", "2").code == 0
        assert [trial.rung.latency.samples for trial in measured_of(laddered).trials] == [2, 20, 20]
        assert [reprofile.is_earlier(trial) for trial in measured_of(laddered).trials] == [False, True, True]
        assert sanderling(capsys, "profile", laddered, "--calls", "2").code == 0
        assert measured_of(laddered).trials[1].verdict.count(reprofile.EARLIER) == 1
        assert sanderling(capsys, "profile", laddered, "--calls", "2", "--all").code == 0
        assert [trial.rung.latency.samples for trial in measured_of(laddered).trials] == [2, 2, 2]
        assert not any(reprofile.is_earlier(trial) for trial in measured_of(laddered).trials)

    def test_on_another_machine_engines_are_compared_and_chosen_again(
        self, laddered: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_measured(
            laddered, lambda m: dataclasses.replace(m, machine={"cpu": "another"}, drift=(), placement_costs=())
        )
        monkeypatch.setattr("sanderling.calibration.choose.ROUNDS", 2)
        result = sanderling(capsys, "profile", laddered, "--calls", "2")
        assert result.code == 0
        assert "another machine than before" in result.out
        after = measured_of(laddered)
        assert after.machine["cpu"] != "another"
        assert after.drift
        assert after.placement_costs
        assert after.stand_in is False

    def test_a_stand_in_stays_one(
        self, laddered: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_measured(
            laddered, lambda m: dataclasses.replace(m, machine={"cpu": "another"}, stand_in=True, device="arm64")
        )
        monkeypatch.setattr("sanderling.calibration.choose.ROUNDS", 2)
        monkeypatch.setattr("sanderling.machine.fitting_device", lambda: "x86_64")
        assert "stand-in" in sanderling(capsys, "profile", laddered, "--calls", "2").out
        assert (measured_of(laddered).device, measured_of(laddered).stand_in) == ("arm64", True)

    def test_a_bundle_that_nobody_measured_gets_its_first_ladder(
        self, laddered: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Bundle.open(laddered) as bundle:
            members = {name: bytes(bundle.read(name)) for name in bundle.names() if name != MEASURED}
        write_bundle(laddered, members)
        assert sanderling(capsys, "plan", laddered).code == 2
        monkeypatch.setattr("sanderling.calibration.choose.ROUNDS", 2)
        assert sanderling(capsys, "profile", laddered, "--calls", "3").code == 0
        after = measured_of(laddered)
        assert after.ladder.metric == reprofile.METRIC
        assert len(after.trials) == 3  # the full model, and each of two graphs at half
        assert sanderling(capsys, "plan", laddered).code == 0

    def test_refuses_to_write_figures_of_wrong_answers(
        self, laddered: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        spoil(laddered)
        before = laddered.read_bytes()
        result = sanderling(capsys, "profile", laddered, "--threads", "1", "--calls", "2")
        assert result.code == 1
        assert "differs from the source model" in result.err
        assert laddered.read_bytes() == before

    @pytest.mark.parametrize("calls", ["0", "-1", "1.5", "many"])
    def test_refuses_odd_numbers_of_calls(self, calls: str, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        result = sanderling(capsys, "profile", laddered, "--calls", calls)
        assert result.code == 2
        assert "not a whole number from 1" in result.err or "expected one argument" in result.err


class TestCompare:
    def test_every_engine_inside_its_bounds(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        result = sanderling(capsys, "compare", laddered)
        assert result.code == 0
        assert "all 6 outputs are inside their bounds" in result.out
        rows = sanderling(capsys, "compare", laddered, "--json").json["rows"]
        assert {row["target"] for row in rows} == {"onnxruntime"}

    def test_one_that_drifts_is_named(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        spoil(laddered)
        result = sanderling(capsys, "compare", laddered)
        assert result.code == 1
        assert "OUTSIDE" in result.out
        assert "drifts: onnxruntime" in result.out
        assert sanderling(capsys, "compare", laddered, "--json").json["inside"] is False

    def test_a_target_that_the_bundle_lacks(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        result = sanderling(capsys, "compare", laddered, "--targets", "openvino")
        assert result.code == 2
        assert "Known: onnxruntime" in result.err

    def test_a_target_that_is_not_installed(
        self, laddered: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        for options in ([], ["--targets", "onnxruntime"]):
            result = sanderling(capsys, "compare", laddered, *options)
            assert result.code == 2
            assert "pip install 'sanderling[onnxruntime]'" in result.err


class Links(HTMLParser):
    """Collects what a page would load from elsewhere, and which tags were left open."""

    VOID = ("meta", "img", "br", "link", "path", "use", "rect", "circle")

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


class TestReport:
    def test_one_whole_page_without_scripts_or_links(
        self, laddered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "report.html"
        change_measured(laddered, _one_rejected)
        result = sanderling(capsys, "report", laddered, "-o", output, "--calls", "3", "--json")
        assert result.code == 0
        text = output.read_text()
        assert result.json == {"path": str(output), "bytes": len(text.encode())}
        page = Links()
        page.feed(text)
        assert page.open == []
        assert not [link for link in page.links if not link.startswith(("data:image/png;base64,", "#"))]
        assert "script" not in page.tags
        assert "@import" not in text
        for words in (
            "Ladder",
            "saliency@1",
            "10.0",
            "Latency, measured again",
            "kept",
            "onnxruntime",
            "1 settings and their verdicts",
        ):
            assert words in text
        assert text.count("<img") == 2
        assert text.count("<svg") == 2

    def test_what_was_not_measured_with_the_ladder_is_not_drawn_beside_it(
        self, laddered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        change_measured(laddered, _one_rejected)
        assert sanderling(capsys, "report", laddered, "-o", tmp_path / "a.html", "--calls", "2").code == 0
        change_measured(laddered, _one_earlier)
        assert sanderling(capsys, "report", laddered, "-o", tmp_path / "b.html", "--calls", "2").code == 0
        assert "are not drawn" not in (tmp_path / "a.html").read_text()
        assert "1 other settings are not drawn" in (tmp_path / "b.html").read_text()

    def test_a_stand_in_is_said_loudly(
        self, laddered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        change_measured(laddered, lambda m: dataclasses.replace(m, stand_in=True, device="arm64"))
        assert sanderling(capsys, "report", laddered, "-o", tmp_path / "r.html", "--calls", "2").code == 0
        assert re.search(r'class="warn">STAND-IN.*arm64', (tmp_path / "r.html").read_text())

    def test_data_is_drawn(
        self, laddered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "report_data.py").write_text(
            "from tiny import tiny_data\n\n\ndef four():\n    return tiny_data(4)\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        result = sanderling(capsys, "report", laddered, "-o", "r.html", "--calls", "2", "--data", "report_data:four")
        assert result.code == 0
        assert (tmp_path / "r.html").read_text().count("<img") == 9  # three of the four pictures at three rungs

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ("nowhere", "expected MODULE:FUNCTION"),
            ("no.module:f", "is not found"),
            ("tiny:nothing", "no function 'nothing'"),
        ],
    )
    def test_refuses_data(
        self, data: str, message: str, laddered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = sanderling(capsys, "report", laddered, "-o", tmp_path / "r.html", "--data", data)
        assert result.code == 2
        assert message in result.err
        assert not (tmp_path / "r.html").exists()

    def test_says_what_to_install(
        self, laddered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        result = sanderling(capsys, "report", laddered, "-o", tmp_path / "r.html")
        assert result.code == 2
        assert "pip install 'sanderling[report]'" in result.err

    def test_what_a_bundle_says_cannot_become_markup(
        self, laddered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        change_measured(laddered, lambda m: dataclasses.replace(m, machine={"cpu": "<script>alert(1)</script>"}))
        assert sanderling(capsys, "report", laddered, "-o", tmp_path / "r.html", "--calls", "2").code == 0
        assert "<script" not in (tmp_path / "r.html").read_text()

    def test_the_verb_loads_no_plotting_library_until_it_runs(self) -> None:
        code = "import sys, sanderling.calibration.verbs.report; print('matplotlib' in sys.modules)"
        assert (
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
        )


def spoil(path: Path) -> None:
    """Replace a golden output by another one, with a digest that fits."""
    with Bundle.open(path) as bundle:
        name = bundle.manifest().golden.cases[0].outputs["scores"]
        wrong = array_bytes(np.asarray(read_array(bundle, name)) + 1)
    replace_member(path, name, wrong)


def _only_full_in_ladder(measured: Measured) -> Measured:
    return dataclasses.replace(measured, ladder=dataclasses.replace(measured.ladder, rungs=measured.ladder.rungs[-1:]))


def _one_rejected(measured: Measured) -> Measured:
    """Take the first rung out of the ladder, so that a trial with a verdict is there and two rungs are drawn."""
    first, *others = measured.trials
    ladder = dataclasses.replace(measured.ladder, rungs=measured.ladder.rungs[1:])
    return dataclasses.replace(
        measured, ladder=ladder, trials=(dataclasses.replace(first, verdict="too slow"), *others)
    )


def _one_earlier(measured: Measured) -> Measured:
    """Say that the rejected trial was not measured again."""
    first, *others = measured.trials
    return dataclasses.replace(
        measured, trials=(dataclasses.replace(first, verdict=reprofile.EARLIER + "slow"), *others)
    )
