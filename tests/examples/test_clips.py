from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from benchmarks.camera_soak import SPANS, slope
from examples.scene_qa.clips import SENSOR_NOISE, watch
from sanderling.changes import WARM_UP, ChangeDetector, Changes


@pytest.mark.parametrize("every", [0, 1, 4])
def test_only_the_star_moves_and_as_often_as_asked(every: int) -> None:
    detector, changed = ChangeDetector(Changes()), []
    for frame in islice(watch(3, every), 40):
        change = detector.look(frame)
        detector.saw()
        changed.append(int(change.changed.sum()))
    seen = changed[WARM_UP + 1 :]
    assert max(seen) <= 16  # a star of 7.5 pixels radius that moves by 2 touches at most 4 x 4 patches
    steps = [number for number, patches in enumerate(changed) if patches and number > WARM_UP]
    assert steps == [n for n in range(WARM_UP + 1, 40) if every and n % every == 0]


def test_a_clip_is_the_same_again_and_has_the_noise_it_says() -> None:
    first, again = (np.stack(list(islice(watch(3, 0), 6))).astype(float) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.diff(first, axis=0).std() == pytest.approx(2**0.5 * SENSOR_NOISE, rel=0.05)


def test_the_slope_of_memory_is_the_least_squares_line_through_the_means() -> None:
    rng = np.random.default_rng(0)
    seconds = np.arange(2000) / 10
    for rise in (0.0, 40.0):
        samples = np.stack([seconds, 100 + rise * seconds / 3600 + rng.normal(0, 0.3, 2000)], axis=1)
        found, half = slope(samples)
        means = np.stack([part.mean(axis=0) for part in np.array_split(samples[200:], SPANS)])
        line, covariance = np.polyfit(means[:, 0] / 3600, means[:, 1], 1, cov=True)
        assert found == pytest.approx(line[0])
        assert half == pytest.approx(2.101 * covariance[0, 0] ** 0.5, rel=1e-6)
        assert abs(found - rise) < half
        assert (found - half > 0) == (rise > 0)
