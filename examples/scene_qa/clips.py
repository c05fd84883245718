"""A still scene before a camera, with one small thing that moves now and then."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from examples.scene_qa.scenes import COLOURS, IMAGE_SIZE, Thing, draw_scene, paint

SENSOR_NOISE = 1.5
"""Standard deviation of the noise that every frame has of its own, in grey levels."""

TURN = 90
"""Steps of the moving thing once around, about 2 pixels each."""


def watch(seed: int, every: int) -> Iterator[NDArray[np.uint8]]:
    """Yield frames without end, uint8 [96, 96, 3].

    Args:
        seed: chooses the scene and the noise.
        every: the small red star takes a step in each frame of this many; 0 for never.
    """
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng).image.astype(np.float32)
    star = np.asarray(COLOURS["red"], dtype=np.float32)
    step = 0
    for number in count():
        step += bool(every and number % every == 0)
        angle = 2 * np.pi * step / TURN
        x, y = (IMAGE_SIZE / 2 + 30 * float(wave(angle)) for wave in (np.cos, np.sin))
        canvas = scene.copy()
        paint(canvas, Thing("star", "red", "small", x, y), star, angle)
        canvas += SENSOR_NOISE * rng.standard_normal(canvas.shape, dtype=np.float32)
        yield np.clip(np.round(canvas), 0, 255).astype(np.uint8)
