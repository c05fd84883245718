"""The verbs that a device has: inspect, verify, plan, run, doctor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import damage, sanderling

from sanderling import machine
from sanderling.bundle import Bundle, replace_member
from sanderling.codec import to_json
from sanderling.doctor import Diagnosis, Row
from sanderling.errors import InputError
from sanderling.session import load
from sanderling.spec import ArrayInput, ImageInput, InputSpec, TextInput
from sanderling.verbs.run import read_inputs

IMAGE = ImageInput("image", "pixels", 8, 8, "exact", 8, "bilinear", 1.0, (0.0,) * 3, (1.0,) * 3)
SPECS: tuple[InputSpec, ...] = (
    IMAGE,
    TextInput("text", "ids", "", "tokenizer.json", 8, 0, "longest"),
    ArrayInput("audio", "float32", ("batch", 4)),
)


class TestInspect:
    def test_says_what_is_inside(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        result = sanderling(capsys, "inspect", laddered)
        assert result.code == 0
        for words in ("--input image=photo.jpg", "tokens.image", "vision/saliency@1", "0.850 to 0.950", "accuracy"):
            assert words in result.out

    def test_json_has_the_ladder_the_sizes_and_the_origin(
        self, laddered: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = sanderling(capsys, "inspect", laddered, "--json").json
        assert [rung["latency"]["p50_ms"] for rung in found["measured"]["ladder"]["rungs"]] == [2.0, 4.0, 10.0]
        assert [graph["name"] for graph in found["graphs"]] == ["full", "random@1", "saliency@1"]
        with Bundle.open(laddered) as bundle:
            weights = [bundle.size(name) for name in bundle.names() if name.startswith("weights/")]
            everything = sum(bundle.size(name) for name in bundle.names())
        assert found["sizes"]["weights"] == {"members": len(weights), "bytes": sum(weights)}
        assert sum(kind["bytes"] for kind in found["sizes"].values()) == everything
        assert set(found["provenance"]) == {"source", "data", "recipe", "versions"}

    def test_reads_no_weights(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        damage(laddered, "weights/")
        assert sanderling(capsys, "inspect", laddered).code == 0

    def test_says_stand_in_loudly(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        stand_in(laddered)
        assert "STAND-IN" in sanderling(capsys, "inspect", laddered).out

    def test_refuses_what_is_no_bundle(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "notes.txt").write_text("not a bundle " * 20)
        assert sanderling(capsys, "inspect", tmp_path / "notes.txt").code == 2
        assert sanderling(capsys, "inspect", tmp_path / "absent.sand").code == 2


class TestVerify:
    def test_whole(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        result = sanderling(capsys, "verify", laddered, "--json")
        assert result.code == 0
        assert result.json["whole"] is True

    @pytest.mark.parametrize("prefix", ["weights/", "graphs/", "golden/", "manifest.json", "measured.json"])
    def test_a_flipped_bit_is_found(self, prefix: str, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        name = damage(laddered, prefix)
        result = sanderling(capsys, "verify", laddered)
        assert result.code == 1
        assert name in result.out
        assert "not whole" in result.out
        assert sanderling(capsys, "verify", laddered, "--json").json["whole"] is False

    def test_a_bundle_cut_short_is_found(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        laddered.write_bytes(laddered.read_bytes()[:-1])
        result = sanderling(capsys, "verify", laddered)
        assert result.code == 1
        assert "cut short" in result.out

    def test_a_file_that_is_not_there_is_the_users_mistake(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = sanderling(capsys, "verify", tmp_path / "absent.sand")
        assert result.code == 2
        assert "no such file" in result.err

    def test_run_answers_the_golden_cases(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        result = sanderling(capsys, "verify", laddered, "--run", "--json")
        assert result.code == 0
        rows = result.json["golden"]
        assert {row["output"] for row in rows} == {"scores", "image_kept"}
        assert all(row["inside"] for row in rows)

    def test_run_finds_a_wrong_answer(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        spoil_golden(laddered)
        result = sanderling(capsys, "verify", laddered, "--run")
        assert result.code == 1
        assert "wrong: 1 of 6" in result.out
        assert "scores" in result.out


class TestPlan:
    @pytest.mark.parametrize(
        ("options", "tokens", "predicted_ms"),
        [
            ([], 16, 15.0),
            (["--latency-ms", "15"], 16, 15.0),
            (["--latency-ms", "14.9"], 8, 6.0),
            (["--latency-ms", "14.9", "--percentile", "50"], 16, 10.0),
            (["--latency-ms", "5"], 4, 3.0),
            (["--memory-mb", "110"], 8, 6.0),
            (["--latency-ms", "1", "--cheapest"], 4, 3.0),
        ],
        ids=["no limit", "just enough", "too little", "at the median", "5 ms", "memory", "cheapest"],
    )
    def test_best_rung_that_fits(
        self,
        options: list[str],
        tokens: int,
        predicted_ms: float,
        laddered: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        plan = sanderling(capsys, "plan", laddered, *options, "--json").json["plan"]
        assert (plan["settings"], plan["predicted_ms"]) == ({"tokens.image": tokens}, predicted_ms)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--latency-ms", "0"], "latency_ms is 0"),
            (["--latency-ms", "nan"], "latency_ms is nan"),
            (["--latency-ms", "-3"], "latency_ms is -3"),
            (["--latency-ms", "1"], "below the cheapest rung"),
            (["--percentile", "100"], "percentile is 100"),
            (["--min-quality", "2"], "min_quality is 2"),
            (["--latency-ms", "5", "--min-quality", "0.95"], "below the cheapest rung"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_refuses(
        self, options: list[str], message: str, laddered: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = sanderling(capsys, "plan", laddered, *options)
        assert result.code == 2
        assert message in result.err

    def test_explain_says_why_better_ones_do_not_fit_and_what_the_next_gives(
        self, laddered: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = sanderling(capsys, "plan", laddered, "--latency-ms", "7", "--explain")
        assert "8.00 ms over" in result.out
        assert "has quality 1.000 (+0.100) for 9.00 ms more" in result.out
        found = sanderling(capsys, "plan", laddered, "--latency-ms", "7", "--explain", "--json").json
        assert [rung["chosen"] for rung in found["rungs"]] == [False, True, False]
        assert found["next_up"]["more_ms"] == 9.0

    def test_explain_at_the_top(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "no rung above" in sanderling(capsys, "plan", laddered, "--explain").out

    def test_opens_no_engine(
        self, laddered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def refuse(name: str) -> None:
            raise AssertionError(f"opened {name}")

        monkeypatch.setattr("sanderling.engine.opener", refuse)
        monkeypatch.setattr("sanderling.opening.opener", refuse)
        assert sanderling(capsys, "plan", laddered, "--latency-ms", "5", "--explain").code == 0

    def test_warns_of_a_stand_in(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        stand_in(laddered)
        assert "stand-in" in sanderling(capsys, "plan", laddered).out


class TestRun:
    def test_answers_as_a_session_does(self, laddered: Path, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
        found = sanderling(capsys, "run", laddered, "--input", f"image={picture}", "--json").json
        with load(laddered) as session:
            expected = session.run({"image": picture}).outputs["scores"]
        # The same engine on the same input.
        np.testing.assert_array_equal(np.float32(found["outputs"]["scores"]["values"]), expected)
        assert found["outputs"]["image_kept"]["shape"] == [1, 16]
        assert found["receipt"]["plan"]["settings"] == {"tokens.image": 16}

    def test_a_name_that_comes_again_makes_a_batch(
        self, laddered: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        saved = tmp_path / "answers.npz"
        given = ["--input", f"image={picture}", "--input", f"image={picture}"]
        result = sanderling(capsys, "run", laddered, *given, "--latency-ms", "7", "--cheapest", "--save", saved)
        assert result.code == 0
        with np.load(saved) as arrays:
            assert arrays["scores"].shape == (2, 3)
            assert arrays["image_kept"].shape == (2, 8)
            np.testing.assert_array_equal(arrays["scores"][0], arrays["scores"][1])

    def test_the_receipt_in_words(self, laddered: Path, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
        result = sanderling(capsys, "run", laddered, "--input", f"image={picture}", "--latency-ms", "7")
        assert "planned    vision/saliency@1 at tokens.image=8" in result.out
        assert "kept 8 of 16 tokens.image by saliency (inner, layer 1)" in result.out

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("image", "expected NAME=VALUE"),
            ("sound=a.wav", "no input is called 'sound'; this model takes image"),
            ("image=absent.png", "there is no file absent.png"),
        ],
    )
    def test_refuses(self, given: str, message: str, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        result = sanderling(capsys, "run", laddered, "--input", given)
        assert result.code == 2
        assert message in result.err

    def test_needs_an_input(self, laddered: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert sanderling(capsys, "run", laddered).code == 2


class TestReadInputs:
    def test_texts_paths_and_arrays(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.ones((1, 4), np.float32))
        given = ["text=a = b", "image=x.png", f"audio={tmp_path / 'a.npy'}", f"audio={tmp_path / 'a.npy'}"]
        found = read_inputs(given, SPECS)
        assert (found["text"], found["image"]) == ("a = b", "x.png")
        assert found["audio"].shape == (2, 4)

    @pytest.mark.parametrize("content", [b"", b"no array", None], ids=["empty", "garbage", "absent"])
    def test_refuses_what_is_no_array(self, content: bytes | None, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read as a \.npy array"):
            read_inputs([f"audio={tmp_path / 'a.npy'}"], SPECS)

    def test_refuses_pickles_and_archives(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
        with pytest.raises(InputError, match="cannot be read"):
            read_inputs([f"audio={tmp_path / 'a.npy'}"], SPECS)
        np.savez(tmp_path / "b.npz", a=np.ones(2))
        with pytest.raises(InputError, match="holds several arrays"):
            read_inputs([f"audio={tmp_path / 'b.npz'}"], SPECS)

    def test_refuses_arrays_that_make_no_batch(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.ones((1, 4), np.float32))
        np.save(tmp_path / "b.npy", np.ones((1, 5), np.float32))
        with pytest.raises(InputError, match="make no batch"):
            read_inputs([f"audio={tmp_path / 'a.npy'}", f"audio={tmp_path / 'b.npy'}"], SPECS)


class TestDoctor:
    def test_it_shows_the_devices_that_fit_and_what_is_too_old(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(machine, "outdated", lambda device: ("onnxruntime 1.10 is older than 1.20",))
        shown = sanderling(capsys, "doctor").out
        assert "onnxruntime 1.10 is older than 1.20" in shown
        assert "has never run on a real GPU" in shown
        told = sanderling(capsys, "doctor", "--json").json
        assert told["devices"] == [device.name for device in machine.fitting_devices()]
        assert told["outdated"] == ["onnxruntime 1.10 is older than 1.20"]
        assert [row["name"] for row in told["targets"] if row["caution"]] == ["tensorrt"]

    @pytest.mark.parametrize(("status", "code"), [("PASS", 0), ("FAIL", 1)])
    def test_exit_code_says_whether_an_engine_works(
        self, status: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = (Row("one", "FAIL", "not there"), Row("two", status, ""))  # type: ignore[arg-type]
        monkeypatch.setattr("sanderling.doctor.diagnose", lambda: Diagnosis({"cpu": "abacus"}, None, rows))
        result = sanderling(capsys, "doctor")
        assert result.code == code
        assert "abacus" in result.out
        assert "not there" in result.out
        assert sanderling(capsys, "doctor", "--json").json["targets"][1]["status"] == status


def stand_in(path: Path) -> None:
    """Say that a bundle was measured on another machine than its device."""
    import dataclasses

    with Bundle.open(path) as bundle:
        measured = bundle.measured()
    assert measured is not None
    replace_member(path, "measured.json", to_json(dataclasses.replace(measured, stand_in=True, device="arm64")))


def spoil_golden(path: Path) -> None:
    """Replace a golden output by another one, with a digest that fits."""
    from sanderling.bundle import array_bytes, read_array

    with Bundle.open(path) as bundle:
        name = bundle.manifest().golden.cases[0].outputs["scores"]
        wrong = array_bytes(np.asarray(read_array(bundle, name)) + 1)
    replace_member(path, name, wrong)
