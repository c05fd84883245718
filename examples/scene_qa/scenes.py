"""Draws scenes: coloured shapes of two sizes on a cluttered background, with what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

IMAGE_SIZE = 96
"""Pixels on each side of a scene."""

SHAPES = ("circle", "square", "triangle", "cross", "star")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 45, 45),
    "green": (40, 165, 65),
    "blue": (45, 85, 215),
    "yellow": (232, 205, 45),
    "purple": (150, 60, 190),
    "orange": (240, 135, 35),
}
SIZES = {"small": 7.5, "large": 12.0}
"""Half the extent of a shape, in pixels."""

COLOUR_NAMES = tuple(COLOURS)
MAX_OBJECTS = 5

Pixels: TypeAlias = NDArray[np.floating[Any]]

_AXIS = np.arange(IMAGE_SIZE, dtype=np.float32)


@dataclass(frozen=True)
class Thing:
    """One shape in a scene; `x` grows to the right and `y` downwards, in pixels."""

    shape: str
    colour: str
    size: str
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """A picture and what was drawn in it.

    Attributes:
        image: uint8 [96, 96, 3], red green blue.
        things: what is in it, in drawing order; no two overlap.
        labels: uint8 [12, 12], for each 8 x 8 patch 0 or 1 + shape * 6 + colour of the thing that covers
            most of it (at least a tenth of the patch).
    """

    image: NDArray[np.uint8]
    things: tuple[Thing, ...]
    labels: NDArray[np.uint8]


def draw_scene(rng: np.random.Generator) -> Scene:
    """Return a scene with one to five things, drawn from `rng`."""
    things = _place_things(rng)
    canvas = _background(rng)
    cover = np.zeros((MAX_OBJECTS, 12, 12), dtype=np.float32)
    for index, thing in enumerate(things):
        angle = float(rng.uniform(-0.3, 0.3))
        tint = np.asarray(COLOURS[thing.colour], dtype=np.float32) + rng.normal(0, 9, 3).astype(np.float32)
        cover[index] = paint(canvas, thing, tint, angle).reshape(12, 8, 12, 8).mean(axis=(1, 3))
    canvas += 5 * rng.standard_normal(canvas.shape, dtype=np.float32)
    return Scene(np.clip(canvas, 0, 255).astype(np.uint8), things, _label_patches(things, cover))


def paint(canvas: NDArray[np.float32], thing: Thing, tint: NDArray[np.float32], angle: float) -> NDArray[np.float32]:
    """Draw a thing onto a canvas and return its coverage, 0 to 1, float32 [96, 96].

    Args:
        canvas: float32 [96, 96, 3], changed in place.
        thing: its colour's name is not used.
        tint: its colour, red green blue, 0 to 255.
        angle: turned by so many radians.
    """
    rows, columns, mask = _mask(thing, angle)
    window = canvas[rows, columns]
    window += mask[..., None] * (tint - window)
    cover = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32)
    cover[rows, columns] = mask
    return cover


def _place_things(rng: np.random.Generator) -> tuple[Thing, ...]:
    wanted = int(rng.integers(2, MAX_OBJECTS + 1))
    shapes = rng.choice(len(SHAPES), size=int(rng.integers(1, 4)), replace=False)
    colours = rng.choice(len(COLOUR_NAMES), size=int(rng.integers(2, 5)), replace=False)
    things: list[Thing] = []
    for _ in range(40):
        if len(things) == wanted:
            break
        size = str(rng.choice(list(SIZES)))
        margin = SIZES[size] + 1.0
        x, y = rng.uniform(margin, IMAGE_SIZE - margin, 2)
        if all(np.hypot(x - t.x, y - t.y) > 1.25 * (SIZES[size] + SIZES[t.size]) for t in things):
            shape, colour = SHAPES[int(rng.choice(shapes))], COLOUR_NAMES[int(rng.choice(colours))]
            things.append(Thing(shape, colour, size, float(x), float(y)))
    return tuple(things)


def _background(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a tinted ramp with grey strokes and specks that belong to no thing, float32 [96, 96, 3]."""
    corners = rng.uniform(90, 190, (2, 3)).astype(np.float32)
    slope = rng.uniform(-1, 1, 2)
    ramp = (slope[0] * _AXIS[:, None] + slope[1] * _AXIS[None, :]) / (2 * IMAGE_SIZE) + 0.5
    canvas: NDArray[np.float32] = corners[0] + ramp[..., None].astype(np.float32) * (corners[1] - corners[0])
    for _ in range(int(rng.integers(3, 8))):
        _stroke(canvas, rng)
    for x, y in rng.integers(0, IMAGE_SIZE - 2, (int(rng.integers(10, 40)), 2)):
        canvas[y : y + 2, x : x + 2] = rng.uniform(30, 225)
    return canvas


def _stroke(canvas: NDArray[np.float32], rng: np.random.Generator) -> None:
    start, stop = rng.uniform(0, IMAGE_SIZE, (2, 2))
    steps = np.linspace(0, 1, 2 * IMAGE_SIZE)[:, None]
    points = (start + steps * (stop - start)).astype(np.int64)
    canvas[points[:, 0], points[:, 1]] = rng.uniform(30, 225)


def _mask(thing: Thing, angle: float) -> tuple[slice, slice, NDArray[np.float32]]:
    """Return the window of the picture that the thing touches and its coverage there, 0 to 1."""
    radius = SIZES[thing.size]
    reach = radius + 3
    rows = slice(max(int(thing.y - reach), 0), min(int(thing.y + reach) + 2, IMAGE_SIZE))
    columns = slice(max(int(thing.x - reach), 0), min(int(thing.x + reach) + 2, IMAGE_SIZE))
    dx, dy = (_AXIS[columns] - thing.x)[None, :], (_AXIS[rows] - thing.y)[:, None]
    u = np.cos(angle) * dx + np.sin(angle) * dy
    v = np.cos(angle) * dy - np.sin(angle) * dx
    cover: NDArray[np.float32] = np.clip(0.5 - _distance(thing.shape, u, v, radius), 0, 1).astype(np.float32)
    return rows, columns, cover


def _distance(shape: str, u: Pixels, v: Pixels, radius: float) -> Pixels:
    """Return the signed distance to the outline in pixels, negative inside."""
    if shape == "circle":
        return np.hypot(u, v) - radius
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.86 * radius
    if shape == "triangle":
        return np.maximum(0.866 * np.abs(u) + 0.5 * v, -v) - 0.62 * radius
    if shape == "cross":
        long, short = radius, 0.34 * radius
        bars = (np.maximum(np.abs(u) - long, np.abs(v) - short), np.maximum(np.abs(u) - short, np.abs(v) - long))
        return np.minimum(*bars)
    angle = np.arctan2(u, -v)  # star: the outline's radius swings between tip and notch five times a turn
    swing = np.abs(((angle * 5 / (2 * np.pi)) % 1.0) - 0.5) * 2
    return np.hypot(u, v) - radius * (0.42 + 0.66 * swing)


def _label_patches(things: tuple[Thing, ...], cover: NDArray[np.float32]) -> NDArray[np.uint8]:
    codes = [1 + SHAPES.index(t.shape) * len(COLOUR_NAMES) + COLOUR_NAMES.index(t.colour) for t in things]
    padded = np.asarray(codes + [0] * (MAX_OBJECTS - len(codes)), dtype=np.uint8)
    return np.where(cover.max(axis=0) >= 0.1, padded[cover.argmax(axis=0)], 0).astype(np.uint8)
