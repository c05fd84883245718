"""The log-mel frames equal Hugging Face's audio utilities and a direct Fourier transform."""

from __future__ import annotations

import numpy as np
import pytest
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from examples.digits import sound
from examples.digits.sound import FLOOR, FRAMES, HOP, LOWEST_HZ, MELS, RATE_HZ, SAMPLES, SPREAD, WINDOW
from sanderling.errors import InputError

RECORDING = 0.1 * np.random.default_rng(0).standard_normal(SAMPLES)


def test_mel_filters_equal_hugging_face_s_and_none_is_empty() -> None:
    theirs = mel_filter_bank(WINDOW // 2 + 1, MELS, LOWEST_HZ, RATE_HZ / 2, RATE_HZ, norm=None, mel_scale="htk")
    np.testing.assert_allclose(sound.mel_filters(), theirs.T, atol=1e-9)
    assert (sound.mel_filters().sum(1) > 0.5).all()


def test_frames_equal_hugging_face_s_spectrogram() -> None:
    side = (WINDOW - HOP) // 2
    theirs = spectrogram(
        np.pad(RECORDING, side),
        window_function(WINDOW, "hann"),
        frame_length=WINDOW,
        hop_length=HOP,
        power=2.0,
        center=False,
        mel_filters=sound.mel_filters().T,
        mel_floor=FLOOR,
        log_mel="log",
    )
    # Hugging Face's transform is rounded to single precision on the way.
    np.testing.assert_allclose(sound.log_mel(RECORDING), theirs.T / SPREAD, atol=1e-4)


def test_one_spectrum_equals_the_sum_that_defines_it() -> None:
    frame = 5
    start = frame * HOP - (WINDOW - HOP) // 2
    power = sound.power_spectra(RECORDING)[frame]
    for k in (0, 1, 17, 64, 128):
        total = 0j
        for n in range(WINDOW):
            weight = 0.5 - 0.5 * np.cos(2 * np.pi * n / WINDOW)
            total += weight * RECORDING[start + n] * np.exp(-2j * np.pi * k * n / WINDOW)
        assert power[k] == pytest.approx(abs(total) ** 2, rel=1e-9)


@pytest.mark.parametrize("hz", [300.0, 1000.0, 3000.0])
def test_a_tone_is_loudest_in_the_band_at_its_frequency(hz: float) -> None:
    tone = 0.1 * np.sin(2 * np.pi * hz * np.arange(SAMPLES) / RATE_HZ)
    mel = 2595 * np.log10(1 + np.array([LOWEST_HZ, hz, RATE_HZ / 2]) / 700)
    place = (mel[1] - mel[0]) / (mel[2] - mel[0]) * (MELS + 1) - 1
    loudest = sound.log_mel(tone)[FRAMES // 2].argmax()
    assert abs(float(loudest) - place) <= 1


def test_a_batch_equals_its_recordings_one_by_one_and_silence_is_the_floor() -> None:
    batch = np.stack([RECORDING, np.zeros(SAMPLES)])
    frames = sound.log_mel(batch)
    assert frames.shape == (2, FRAMES, MELS)
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames[0], sound.log_mel(RECORDING))
    np.testing.assert_array_equal(frames[1], np.float32(np.log(FLOOR) / SPREAD))


def test_a_recording_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"\[8000\] samples, expected 8192"):
        sound.log_mel(np.zeros(8000))
