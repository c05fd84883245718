"""The digit recognizer on made-up digits, in the files' own form."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_digits import TAKES, write_digits

import sanderling
from examples.digits import pairs
from examples.digits import train as training
from examples.digits.architecture import SPEC, WEIGHTS, adapt
from examples.digits.data import EVALUATION_SEED, VARIABLE, data_folder, evaluation, from_corpus, is_right, quick
from examples.digits.model import AUDIO, VISION, WIDTH, DigitModel
from examples.digits.pairs import CANVAS, LOUDNESS, PICTURES, RECORDINGS, Corpus, draw_pair, load_corpus
from examples.digits.sound import RATE_HZ, SAMPLES
from sanderling.bundle import Bundle
from sanderling.calibration.pareto import build_ladder
from sanderling.compile.cache import Cache
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import Recipe, read_recipe
from sanderling.errors import InputError
from sanderling.ladder import Cost, Quality, Rung
from sanderling.manifest import Measured
from sanderling.session import Session


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return load_corpus(folder, "test")


def test_the_splits_are_the_usual_ones(folder: Path) -> None:
    train, test = load_corpus(folder, "train"), load_corpus(folder, "test")
    assert len(test.recordings) == 10 * 5
    assert len(train.recordings) == 10 * (TAKES - 5)
    assert not {len(r) for r in train.recordings} & {len(r) for r in test.recordings}
    assert test.picture_digits[0] == 9
    assert train.picture_digits[0] == 0


def test_a_folder_without_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"there is no file {tmp_path / PICTURES}"):
        load_corpus(tmp_path, "test")


def test_a_file_without_an_array_is_refused(tmp_path: Path) -> None:
    np.savez(write_digits(tmp_path) / RECORDINGS, samples=np.zeros(3), offsets=np.zeros(2))
    with pytest.raises(InputError, match="lacks the array 'digit'; it has samples, offsets"):
        load_corpus(tmp_path, "test")


def test_evaluation_needs_to_be_told_where_the_data_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InputError, match=f"{VARIABLE} is not set; set it to the folder"):
        data_folder()
    monkeypatch.setenv(VARIABLE, str(folder))
    assert len(evaluation().samples) == 300
    assert len(quick().samples) == 40


def test_the_same_seed_draws_the_same_pair_and_another_seed_another(corpus: Corpus) -> None:
    first, again, other = (draw_pair(corpus, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.picture, again.picture)
    np.testing.assert_array_equal(first.waveform, again.waveform)
    assert not np.array_equal(first.picture, other.picture)
    assert first.picture.shape == (CANVAS, CANVAS)
    assert first.waveform.shape == (SAMPLES,)


def test_picture_and_sound_of_a_pair_show_the_same_digit(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "degrade_picture", lambda picture, _: picture)
    monkeypatch.setattr(pairs, "degrade_sound", lambda recording, *_: recording)
    for seed in range(30):
        pair = draw_pair(corpus, np.random.default_rng(seed))
        assert int(pair.picture.any(axis=1).argmax()) == 4 + 2 * pair.digit
        hz = np.abs(np.fft.rfft(pair.waveform)).argmax() * RATE_HZ / len(pair.waveform)
        assert abs(hz - (200 + 150 * pair.digit)) < 10


@pytest.mark.parametrize("snr_db", [-6.0, 0.0, 12.0])
def test_noise_has_the_stated_power(snr_db: float) -> None:
    silent = pairs.degrade_sound(np.zeros(1000, np.int16), np.random.default_rng(0), snr_db)
    tone = (9000 * np.sin(np.arange(3000) / 3)).astype(np.int16)
    noisy = pairs.degrade_sound(tone, np.random.default_rng(0), snr_db)
    quiet = pairs.degrade_sound(tone, np.random.default_rng(0), 200.0)
    word = quiet[np.abs(quiet) > 1e-6]
    assert np.sqrt(np.mean(word**2)) == pytest.approx(LOUDNESS, rel=0.02)
    for noise in (silent, noisy - quiet):
        assert 20 * np.log10(LOUDNESS / noise.std()) == pytest.approx(snr_db, abs=0.3)


def test_a_word_longer_than_the_recording_loses_its_end() -> None:
    long = (9000 * np.sin(np.arange(SAMPLES + 500))).astype(np.int16)
    whole, cut = (pairs.degrade_sound(r, np.random.default_rng(0), 0.0) for r in (long, long[:SAMPLES]))
    np.testing.assert_array_equal(whole, cut)


def test_a_square_covers_part_of_every_digit_and_noise_lies_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    white = np.zeros((28, 28), np.uint8)
    white[4:24, 4:24] = 255
    noisy = pairs.degrade_picture(white, np.random.default_rng(3))
    monkeypatch.setattr(pairs, "GREY_NOISE", 0.0)
    assert not np.array_equal(noisy, pairs.degrade_picture(white, np.random.default_rng(3)))
    for seed in range(20):
        clean = pairs.degrade_picture(white, np.random.default_rng(seed))
        levels, counts = np.unique(clean, return_counts=True)
        assert len(levels) == 3, "background, strokes and square"
        assert pairs.COVER[0] ** 2 <= counts.min() <= pairs.COVER[1] ** 2


def test_stretching_makes_a_word_longer(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "degrade_sound", lambda recording, *_: recording)
    plain, slow = (draw_pair(corpus, np.random.default_rng(4), stretch=by).waveform for by in (1.0, 1.2))
    assert len(slow) / len(plain) == pytest.approx(1.2, abs=0.01)


def test_evaluation_scores_the_expected_digit(corpus: Corpus) -> None:
    data = from_corpus(corpus, 3)
    scores = np.zeros((1, 10), np.float32)
    scores[0, data.expected[0]] = 1
    assert is_right({"digit_scores": scores}, data.expected[0]) == 1
    assert is_right({"digit_scores": -scores}, data.expected[0]) == 0
    assert data.digest() != from_corpus(corpus, 3, seed=EVALUATION_SEED + 1).digest()


def test_a_missing_picture_or_sound_becomes_the_learned_token_and_nothing_else_does(corpus: Corpus) -> None:
    model = DigitModel().eval()
    drawn = [draw_pair(corpus, np.random.default_rng(seed)) for seed in range(3)]
    batch = training.to_batch(drawn, np.array([True, False, False]), np.array([False, True, False]))
    with torch.inference_mode():
        image, audio = model.vision(batch.pixels)[0], model.audio(batch.frames)[0]
    for rows, absent, missing in ((image, model.vision.absent, 0), (audio, model.audio.absent, 1)):
        torch.testing.assert_close(rows[missing], absent.expand_as(rows[missing]))
        assert all((rows[other] - absent).abs().max() > 0.1 for other in range(3) if other != missing)


def test_helpers_learn_nothing_from_what_is_missing(corpus: Corpus) -> None:
    torch.manual_seed(0)
    trainee = training.Trainee()
    drawn = [draw_pair(corpus, np.random.default_rng(seed)) for seed in range(2)]
    none, every = np.zeros(2, bool), np.ones(2, bool)
    with torch.inference_mode():
        blind, _ = trainee.losses(training.to_batch(drawn, every, none), (10, 8))
        deaf, scores = trainee.losses(training.to_batch(drawn, none, every), (10, 8))
    assert float(blind["picture"]) == float(deaf["sound"]) == 0
    assert min(float(blind["sound"]), float(deaf["picture"])) > 0
    assert scores.shape == (2, 10)


def test_training_draws_every_budget_of_both_levers_independently() -> None:
    drawn = [training.tokens_at(step, 11) for step in range(400)]
    assert len({image for image, _ in drawn}) == len({audio for _, audio in drawn}) == len(training.BUDGETS)
    assert max(drawn) == (VISION.tokens, AUDIO.tokens)
    assert abs(np.corrcoef(np.array(drawn).T)[0, 1]) < 0.2


def test_some_pairs_of_a_batch_lack_picture_or_sound_but_never_both(folder: Path) -> None:
    batch = training.make_batch(load_corpus(folder, "train"), 11, 0, 100)
    assert 0 < int((batch.picture_there == 0).sum()) < 30
    assert 0 < int((batch.sound_there == 0).sum()) < 30
    assert float((batch.picture_there + batch.sound_there).min()) == 1


class KilledError(Exception):
    """Stands for the power going off."""


def test_training_goes_on_where_it_was_killed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(training.Options(), steps=4, pairs=2, save_every=2, warmup=1)
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: {})
    training.train(options, folder, tmp_path / "whole")
    real = training.make_batch

    def dying(corpus: Corpus, seed: int, step: int, count: int) -> training.Batch:
        if step == 3:
            raise KilledError
        return real(corpus, seed, step, count)

    monkeypatch.setattr(training, "make_batch", dying)
    with pytest.raises(KilledError):
        training.train(options, folder, tmp_path / "killed")
    monkeypatch.setattr(training, "make_batch", real)
    training.train(options, folder, tmp_path / "killed")
    whole, resumed = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "killed"))
    assert whole == resumed
    assert len((tmp_path / "killed" / "record.jsonl").read_text().splitlines()) == 2


def test_accuracy_is_told_with_both_and_with_one_hidden(corpus: Corpus) -> None:
    torch.manual_seed(0)
    found = training.evaluate(DigitModel().eval(), corpus, seed=1, count=20)
    assert set(found) == {"both", "image only", "sound only"}
    assert all(0 <= share <= 1 for share in found.values())


def test_the_quick_recipe_measures_both_levers() -> None:
    recipe = read_recipe(WEIGHTS.parent.parent / "quick.yaml")
    assert recipe.passes is not None
    assert [name for name, _ in recipe.passes] == ["reduce"]
    assert {site.lever for site in SPEC.sites[:2]} == {"tokens.image", "tokens.audio"}


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile seeded random weights with one reducer at both inputs."""
    place = tmp_path_factory.mktemp("compiled")
    torch.manual_seed(0)
    save_file({k: v.half().contiguous() for k, v in DigitModel().state_dict().items()}, place / "weights.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITS_WEIGHTS", str(place / "weights.safetensors"))
        adapted = adapt()
    passes = (("reduce", Reduce(reducers=("saliency",), layers=(0,), fractions=(0.5, 0.25))),)
    return compile_model(
        adapted,
        place / "digits.sand",
        evaluation=from_corpus(load_corpus(folder, "test"), 3),
        recipe=Recipe(passes=passes, targets=("onnxruntime",), threads=1),
        cache=Cache(place / "cache"),
    )


def test_every_combination_of_both_levers_is_measured(bundle: Path) -> None:
    with sanderling.load(bundle) as session:
        tried = {(t.rung.settings["tokens.image"], t.rung.settings["tokens.audio"]) for t in session.measured.trials}
    assert tried == {(image, audio) for image in (81, 40, 20) for audio in (64, 32, 16)}


def priced(rung: Rung) -> Rung:
    """Return a rung with a made-up cost and quality, both rising with both token counts."""
    image, audio = rung.settings["tokens.image"], rung.settings["tokens.audio"]
    ms, score = (image + audio) / 10, 0.4 + 0.3 * (image / 81) ** 0.5 + 0.3 * (audio / 64) ** 0.5
    return replace(
        rung,
        latency=Cost(ms, ms, ms, 50),
        components={name: Cost(ms / 3, ms / 3, ms / 3, 50) for name in rung.components},
        quality=Quality(score, score, score, 50),
    )


def test_the_planner_moves_both_levers_and_the_engine_follows(bundle: Path, corpus: Corpus) -> None:
    sample = from_corpus(corpus, 1).samples[0]
    with Bundle.open(bundle) as opened:
        measured = opened.measured()
        assert isinstance(measured, Measured)
        ladder, _ = build_ladder([priced(trial.rung) for trial in measured.trials], "accuracy")
        session = Session(opened, measured=replace(measured, ladder=ladder))
        moved = {"tokens.image": set(), "tokens.audio": set()}  # type: dict[str, set[int]]
        for budget_ms in (3.7, 5.3, 7.4, 9.7, 11.4, 14.6):
            plan = session.plan(sanderling.Budget(latency_ms=budget_ms))
            answer = session.run(sample, plan=plan)
            assert answer.outputs["image_kept"].shape[1] == plan.settings["tokens.image"]
            assert answer.outputs["audio_kept"].shape[1] == plan.settings["tokens.audio"]
            for name, settings in moved.items():
                settings.add(plan.settings[name])
    assert moved == {"tokens.image": {81, 40, 20}, "tokens.audio": {64, 32, 16}}


def test_a_call_equals_the_model_in_torch(bundle: Path, corpus: Corpus) -> None:
    drawn = [draw_pair(corpus, np.random.default_rng(seed)) for seed in range(2)]
    batch = training.to_batch(drawn, np.array([False, True]), np.zeros(2, bool))
    model = DigitModel()
    torch.manual_seed(0)
    model.load_state_dict({name: value.half().float() for name, value in DigitModel().state_dict().items()})
    with torch.inference_mode():
        expected = model.eval()(batch.pixels, batch.frames).numpy()
    pictures = np.stack([drawn[0].picture, pairs.no_picture()])[..., None]
    with sanderling.load(bundle) as session:
        outputs = session.run({"image": pictures, "log_mel": batch.frames.numpy()}, plan=session.at({})).outputs
    np.testing.assert_allclose(outputs["digit_scores"], expected, atol=2e-4)


def test_a_picture_of_another_size_and_a_sound_of_another_length_are_refused(bundle: Path, corpus: Corpus) -> None:
    sample = from_corpus(corpus, 1).samples[0]
    with sanderling.load(bundle) as session:
        with pytest.raises(InputError, match="takes only 36 x 36"):
            session.run(sample | {"image": sample["image"][:28, :28]})
        with pytest.raises(InputError, match="axis 1 has length 100, needs 128"):
            session.run(sample | {"log_mel": sample["log_mel"][:, :100]})


def test_without_sound_the_encoder_of_the_picture_runs_alone(bundle: Path, corpus: Corpus) -> None:
    """Leaving an input out skips the fusion; to be asked without sound it is given silence instead."""
    with sanderling.load(bundle) as session:
        answer = session.run({"image": from_corpus(corpus, 1).samples[0]["image"]}, plan=session.at({}))
    assert set(answer.outputs) == {"image_kept"}
    assert set(answer.receipt.skipped) == {"audio", "fusion"}


def test_the_committed_weights_fit_the_model_and_are_small() -> None:
    assert WEIGHTS.stat().st_size < 4e6
    parts = adapt().parts
    assert parts[0].build is not None
    module = parts[0].build(None)
    assert sum(p.numel() for p in module.parameters()) > 4 * 12 * WIDTH * WIDTH


@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no folder; the project ships no data")
def test_the_committed_model_needs_both_picture_and_sound() -> None:
    model = DigitModel()
    for part in adapt().parts:
        assert part.build is not None
        model.get_submodule(part.component).load_state_dict(part.build(None).state_dict())
    found = training.evaluate(model.eval(), load_corpus(data_folder(), "test"), seed=77, count=300)
    assert found["both"] > 0.9
    assert max(found["image only"], found["sound only"]) < found["both"] - 0.03
