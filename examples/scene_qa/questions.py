"""Asks about scenes in words: what, which colour, how many, where relative to what, is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from examples.scene_qa.scenes import COLOUR_NAMES, SHAPES, SIZES, Scene, Thing

COUNTS = ("zero", "one", "two", "three", "four", "five")
PLACES = ("left", "right", "above", "below")
ANSWERS: tuple[str, ...] = ("no", "yes", *COUNTS, *SHAPES, *COLOUR_NAMES, *PLACES)
"""Every answer the model can give, in the order of its scores."""

KINDS = ("what", "colour", "count", "where", "exists")


@dataclass(frozen=True)
class Question:
    """A question about a scene.

    Attributes:
        kind: one of `KINDS`.
        text: in words.
        answer: one of `ANSWERS`.
        about: the things it points at, in the order of the words; none for counts and "is there".
    """

    kind: str
    text: str
    answer: str
    about: tuple[Thing, ...] = ()


@dataclass(frozen=True)
class Filter:
    """A description such as "small red circle"; an empty part fits everything."""

    size: str = ""
    colour: str = ""
    shape: str = ""

    def fits(self, thing: Thing) -> bool:
        """Return whether every part named fits the thing."""
        wanted = ((self.size, thing.size), (self.colour, thing.colour), (self.shape, thing.shape))
        return all(not part or part == value for part, value in wanted)

    def words(self) -> str:
        """Return the description in words, in the singular."""
        return " ".join(part for part in (self.size, self.colour, self.shape or "thing") if part)


def ask(scene: Scene, rng: np.random.Generator, kind: str) -> Question | None:
    """Return a question of the kind, or None when this scene allows none (nothing unique to point at)."""
    return _ASKERS[kind](scene, rng)


def ask_many(scene: Scene, rng: np.random.Generator, count: int) -> list[Question]:
    """Return `count` questions; kinds are drawn evenly, and drawn again where the scene allows none of a kind."""
    questions: list[Question] = []
    while len(questions) < count:
        kind = KINDS[int(rng.integers(len(KINDS)))]
        tries = (ask(scene, rng, kind) for _ in range(12))
        question = next((q for q in tries if q is not None), None)
        if question is not None:
            questions.append(question)
    return questions


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _point_at(scene: Scene, rng: np.random.Generator, hide: str) -> tuple[Filter, Thing] | None:
    """Return a description that fits exactly one thing and does not name what is asked for."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    parts = {"size": thing.size, "colour": thing.colour, "shape": thing.shape}
    shown = {k: v for k, v in parts.items() if k != hide and rng.random() < (0.35 if k == "size" else 0.8)}
    chosen = Filter(**shown)
    unique = bool(shown) and sum(chosen.fits(t) for t in scene.things) == 1
    return (chosen, thing) if unique else None


def _ask_what(scene: Scene, rng: np.random.Generator) -> Question | None:
    found = _point_at(scene, rng, "shape")
    return found and Question("what", f"what shape is the {found[0].words()}", found[1].shape, (found[1],))


def _ask_colour(scene: Scene, rng: np.random.Generator) -> Question | None:
    found = _point_at(scene, rng, "colour")
    return found and Question("colour", f"which colour is the {found[0].words()}", found[1].colour, (found[1],))


def _ask_count(scene: Scene, rng: np.random.Generator) -> Question | None:
    target = int(rng.integers(0, 5))
    for _ in range(6):  # draw towards a target so that every count is asked about as often as scenes allow
        chosen = _some_filter(scene, rng)
        number = sum(chosen.fits(t) for t in scene.things)
        if number == target:
            break
    words = chosen.words() + ("es" if chosen.shape == "cross" else "s")
    return Question("count", f"how many {words} are there", COUNTS[number])


def _some_filter(scene: Scene, rng: np.random.Generator) -> Filter:
    parts = {"size": tuple(SIZES), "colour": COLOUR_NAMES, "shape": SHAPES}
    seen = scene.things[int(rng.integers(len(scene.things)))]
    shown = {
        name: getattr(seen, name) if rng.random() < 0.75 else _pick(rng, options)
        for name, options in parts.items()
        if rng.random() < 0.45
    }
    return Filter(**shown)


def _ask_where(scene: Scene, rng: np.random.Generator) -> Question | None:
    first, second = _point_at(scene, rng, ""), _point_at(scene, rng, "")
    if first is None or second is None or first[1] is second[1]:
        return None
    dx, dy = first[1].x - second[1].x, first[1].y - second[1].y
    if min(abs(dx), abs(dy)) > 0.7 * max(abs(dx), abs(dy)):
        return None  # too close to a diagonal for one word to be right
    place = ("left" if dx < 0 else "right") if abs(dx) > abs(dy) else ("above" if dy < 0 else "below")
    text = f"where is the {first[0].words()} seen from the {second[0].words()}"
    return Question("where", text, place, (first[1], second[1]))


def _ask_exists(scene: Scene, rng: np.random.Generator) -> Question:
    wanted = bool(rng.random() < 0.5)
    seen = scene.things[int(rng.integers(len(scene.things)))]
    chosen = Filter("", seen.colour, seen.shape) if rng.random() < 0.7 else Filter(seen.size, seen.colour, seen.shape)
    if not wanted:
        for _ in range(12):  # a near miss: colours and shapes of the scene in a pairing that is not there
            other = scene.things[int(rng.integers(len(scene.things)))]
            colour = other.colour if rng.random() < 0.6 else _pick(rng, COLOUR_NAMES)
            shape = seen.shape if rng.random() < 0.6 else _pick(rng, SHAPES)
            chosen = Filter(chosen.size, colour, shape)
            if not any(chosen.fits(t) for t in scene.things):
                break
    there = any(chosen.fits(t) for t in scene.things)
    return Question("exists", f"is there a {chosen.words()}", "yes" if there else "no")


_ASKERS: dict[str, Callable[[Scene, np.random.Generator], Question | None]] = {
    "what": _ask_what,
    "colour": _ask_colour,
    "count": _ask_count,
    "where": _ask_where,
    "exists": _ask_exists,
}

_ASKING = "what shape is the which colour how many are there where seen from a thing things"

WORDS: tuple[str, ...] = (
    *("[PAD]", "[UNK]", "[CLS]"),
    *_ASKING.split(),
    *SHAPES,
    *(f"{s}es" if s == "cross" else f"{s}s" for s in SHAPES),
    *COLOUR_NAMES,
    *SIZES,
)
"""The vocabulary; a word's place is its token id."""

MAX_WORDS = 16
"""Tokens the text encoder takes, [CLS] included."""
