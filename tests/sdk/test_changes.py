from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from sanderling.changes import MOST_NOISE, WARM_UP, ChangeDetector, Changes, patch_differences
from sanderling.errors import InputError

Picture = NDArray[np.uint8]


def scene(seed: int = 0, shape: tuple[int, ...] = (96, 96, 3)) -> Picture:
    return np.random.default_rng(seed).integers(40, 200, shape, dtype=np.uint8)


def noisy(picture: Picture, rng: np.random.Generator, sigma: float) -> Picture:
    """The picture as a sensor sees it; rounded to whole levels, which adds 1/12 to the variance."""
    return np.clip(np.round(picture + rng.normal(0, sigma, picture.shape)), 0, 255).astype(np.uint8)


def settled(picture: Picture, rng: np.random.Generator, sigma: float, **options: float) -> ChangeDetector:
    """A detector that knows the noise and saw the picture last."""
    detector = ChangeDetector(Changes(**options))  # type: ignore[arg-type]
    for _ in range(WARM_UP + 4):
        detector.look(noisy(picture, rng, sigma))
    detector.saw()
    return detector


@pytest.mark.parametrize("shape", [(24, 36, 3), (25, 38, 1), (31, 29, 4)], ids=str)
def test_patch_differences_equal_a_loop_over_patches(shape: tuple[int, ...]) -> None:
    a, b = scene(1, shape), scene(2, shape)
    rows, columns = 5, 7
    expected = np.zeros((rows, columns))
    for y in range(rows):
        for x in range(columns):
            window = (
                slice(y * shape[0] // rows, (y + 1) * shape[0] // rows),
                slice(x * shape[1] // columns, (x + 1) * shape[1] // columns),
            )
            expected[y, x] = np.abs(a[window].astype(int) - b[window].astype(int)).mean()
    np.testing.assert_allclose(patch_differences(a, b, (rows, columns)), expected, rtol=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 3.0, 5.0])
def test_the_noise_floor_is_that_of_gaussian_noise(sigma: float) -> None:
    rng = np.random.default_rng(0)
    detector = settled(scene(), rng, sigma)
    change = detector.look(noisy(scene(), rng, sigma))
    # The quartile and the minimum lie a little below the mean.
    assert change.floor == pytest.approx(2 * math.sqrt(sigma**2 + 1 / 12) / math.sqrt(math.pi), rel=0.12)


@pytest.mark.parametrize("sigma", [0.0, 2.0, 5.0])
def test_noise_alone_changes_nothing_for_many_frames(sigma: float) -> None:
    rng = np.random.default_rng(1)
    detector = settled(scene(), rng, sigma)
    assert not any(detector.look(noisy(scene(), rng, sigma)).changed.any() for _ in range(60))


@pytest.mark.parametrize("sigma", [0.0, 2.0, 5.0])
def test_exactly_the_patches_that_changed_are_found(sigma: float) -> None:
    rng = np.random.default_rng(2)
    detector = settled(scene(), rng, sigma)
    moved = scene()
    moved[18:22, 33:38] = 255  # inside the patch in row 2, column 4
    change = detector.look(noisy(moved, rng, sigma))
    assert np.argwhere(change.changed).tolist() == [[2, 4]]
    assert change.share == 1 / 144


def test_everything_counts_as_changed_until_the_noise_is_known_and_a_frame_was_seen() -> None:
    detector = ChangeDetector(Changes())
    for _ in range(WARM_UP):
        assert detector.look(scene()).share == 1
        detector.saw()
    assert detector.look(scene()).share == 0
    unseen = ChangeDetector(Changes())
    assert all(unseen.look(scene()).share == 1 for _ in range(2 * WARM_UP))


def test_a_slow_drift_adds_up_until_it_counts() -> None:
    """Light that changes by one level in 20 frames never shows from one frame to the next."""
    detector = settled(scene(), np.random.default_rng(3), 0.0)
    frames = [scene() + np.uint8(step // 20) for step in range(80)]
    first = next(i for i, frame in enumerate(frames) if detector.look(frame).changed.any())
    assert first == 40  # two levels: more than the least one, and never learned as noise


def test_a_long_pan_does_not_pass_for_noise() -> None:
    wide = scene(4, (96, 300, 3))
    detector = settled(wide[:, :96], np.random.default_rng(4), 2.0)
    for step in range(1, 200):
        change = detector.look(np.ascontiguousarray(wide[:, step : step + 96]))
        assert change.changed.all()
        detector.saw()
    assert change.floor < 2 * MOST_NOISE / 3


def test_noise_above_what_a_sensor_has_is_not_believed() -> None:
    rng = np.random.default_rng(5)
    detector = settled(scene(), rng, 40.0)
    assert detector.look(noisy(scene(), rng, 40.0)).floor == MOST_NOISE


def test_a_buffer_given_twice_does_not_lower_the_noise_floor() -> None:
    rng = np.random.default_rng(6)
    detector = settled(scene(), rng, 3.0)
    twice = noisy(scene(), rng, 3.0)
    before = detector.look(twice).floor
    assert detector.look(twice).floor == before


def test_factor_least_and_grid_change_what_counts() -> None:
    moved = scene()
    moved[18:22, 33:38] += 20  # 4 x 5 of 8 x 8 pixels by 20 levels: 6.25 on average

    def found(**options: object) -> int:
        rng = np.random.default_rng(7)
        return int(settled(scene(), rng, 2.0, **options).look(noisy(moved, rng, 2.0)).changed.sum())  # type: ignore[arg-type]

    assert found() == 1
    assert found(factor=4.0) == 0
    assert found(least=7.0) == 0
    assert found(grid=(24, 24)) == 4


def test_a_large_frame_is_sampled_and_grey_ones_work() -> None:
    grey = scene(8, (1080, 1920))
    detector = settled(grey, np.random.default_rng(8), 0.0)
    moved = grey.copy()
    moved[100:140, 200:260] ^= 128
    change = detector.look(moved)
    assert change.changed[1, 1]
    assert change.changed.sum() <= 2
    assert detector._last is not None
    assert detector._last.size < 4 * 12 * 12 * 16 * 16


@pytest.mark.parametrize(
    "options",
    [{"grid": (0, 4)}, {"factor": 0.5}, {"factor": math.nan}, {"least": -1.0}, {"refresh": 0}],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Changes(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((2, 96, 96, 3), np.uint8), r"\[2, 96, 96, 3\]"),
        (np.zeros((8, 96, 3), np.uint8), "fewer than the grid's 12 x 12"),
    ],
    ids=["dtype", "batch", "small"],
)
def test_pictures_that_cannot_be_compared_are_refused(picture: Picture, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ChangeDetector(Changes()).look(picture)
