"""Recordings to log-mel frames, in NumPy.

The mel scale is HTK's, mel = 2595 log10(1 + hz / 700) (Young et al., The HTK Book, section 5.4), with triangular
filters of height 1. The window is a periodic Hann window.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import InputError

RATE_HZ = 8000
SAMPLES = 8192
"""Samples that the model listens to, about a second."""

WINDOW = 256
HOP = 64
FRAMES = SAMPLES // HOP
MELS = 40
LOWEST_HZ = 50.0
FLOOR = 1e-5
"""Band energy that counts as silence; also keeps the logarithm finite."""

SPREAD = 1.5
"""Frames are ln(energy) / SPREAD: about mean 0 and deviation 1 for speech in noise."""


def log_mel(waveforms: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the normalised log-mel frames of recordings.

    Frame t is centred on sample (t + 1/2) * HOP; the ends are padded with zeros.

    Args:
        waveforms: [..., 8192], 1 is the loudest that 16 bits hold.

    Returns:
        float32 [..., 128, 40]

    Raises:
        InputError: another number of samples.
    """
    if waveforms.ndim < 1 or waveforms.shape[-1] != SAMPLES:
        raise InputError(
            f"a recording of {list(waveforms.shape)} samples, expected {SAMPLES} on the last axis ({RATE_HZ} Hz); cut "
            "it, or fill it with zeros"
        )
    bands = power_spectra(waveforms) @ mel_filters().T
    return (np.log(np.maximum(bands, FLOOR)) / SPREAD).astype(np.float32)


def power_spectra(waveforms: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """[..., samples] -> [..., samples / HOP, WINDOW / 2 + 1], the squared magnitude of every frame's spectrum."""
    side = (WINDOW - HOP) // 2
    padded = np.pad(waveforms.astype(np.float64), [(0, 0)] * (waveforms.ndim - 1) + [(side, side)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=-1)[..., ::HOP, :]
    spectra = np.fft.rfft(frames * hann())
    power: NDArray[np.float64] = spectra.real**2 + spectra.imag**2
    return power


def hann() -> NDArray[np.float64]:
    """Return the periodic Hann window, [WINDOW]."""
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return window


@lru_cache(maxsize=1)
def mel_filters() -> NDArray[np.float64]:
    """Return the weight of every frequency in every band, [MELS, WINDOW / 2 + 1].

    Band b rises from edge b to edge b + 1 and falls to edge b + 2; the edges are evenly spaced in mel.
    """
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (LOWEST_HZ, RATE_HZ / 2))
    edges = 700 * (10 ** (np.linspace(low, high, MELS + 2) / 2595) - 1)
    frequencies = np.arange(WINDOW // 2 + 1) * RATE_HZ / WINDOW
    left, peak, right = (edges[start : start + MELS, None] for start in range(3))
    rising, falling = (frequencies - left) / (peak - left), (right - frequencies) / (right - peak)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters
