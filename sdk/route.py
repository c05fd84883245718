"""A route: what one plan runs, with everything looked up beforehand that is the same for every call."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter

import numpy as np

from sanderling.engine import AnyArray, Engine
from sanderling.errors import InputError
from sanderling.receipt import Reduced
from sanderling.spec import Component, Loop


class Step:
    """One component of a route, with its graph's engine.

    Args:
        component: its inputs, outputs and loop.
        engine: of the graph the plan chose.
        levers: scalar inputs of that graph besides the component's own.
    """

    def __init__(self, component: Component, engine: Engine, levers: tuple[str, ...]) -> None:
        self.component = component
        self.engine = engine
        self.inputs = tuple(tensor.name for tensor in component.inputs)
        self._levers = levers
        self._shared_axes = _shared_axes(component)
        self.last_ms = 0.0
        self.cut = 0
        self.cut_ms = 0.0

    def run(
        self, values: dict[str, AnyArray], settings: Mapping[str, int], stop_s: float = math.inf, at_least: int = 1
    ) -> float:
        """Run the component, adding what it writes to `values`; return its milliseconds.

        Afterwards `last_ms` has the same, `cut` the calls that a loop was stopped short of, and `cut_ms` what they
        would have taken.

        Args:
            values: by name.
            settings: of every lever.
            stop_s: on the clock of `perf_counter`; a loop makes no further call that would end later than this.
            at_least: calls that a loop makes whatever the time.

        Raises:
            InputError: a named axis, such as the batch, differs between two inputs; the message has both lengths.
        """
        for first, place, other, other_place in self._shared_axes:
            if values[first].shape[place] != values[other].shape[other_place]:
                raise self._differ(values, first, place, other, other_place)
        begun = perf_counter()
        feed = {name: values[name] for name in self.inputs}
        for lever in self._levers:
            feed[lever] = scalar(settings[lever])
        loop = self.component.loop
        if loop is None:
            values.update(self.engine.run(feed))
        else:
            values.update(self._loop(loop, feed, settings[loop.lever], stop_s, at_least))
        self.last_ms = (perf_counter() - begun) * 1e3
        return self.last_ms

    def _loop(
        self, loop: Loop, feed: dict[str, AnyArray], calls: int, stop_s: float, at_least: int
    ) -> dict[str, AnyArray]:
        self.cut, self.cut_ms = 0, 0.0
        begun = perf_counter()
        for done in range(1, calls + 1):
            outputs = self.engine.run(feed)
            feed.update({into: outputs[out] for out, into in loop.carry})
            if stop_s < math.inf and at_least <= done < calls:
                now = perf_counter()
                each = (now - begun) / done
                if now + each > stop_s:
                    self.cut, self.cut_ms = calls - done, (calls - done) * each * 1e3
                    break
        return outputs

    def depends_on(self, settings: Mapping[str, int]) -> tuple[int, ...]:
        """Return the settings that change what the component computes, its loop's among them."""
        loop = () if self.component.loop is None else (settings[self.component.loop.lever],)
        return (*(settings[lever] for lever in self._levers), *loop)

    def _differ(
        self, values: Mapping[str, AnyArray], first: str, place: int, other: str, other_place: int
    ) -> InputError:
        axis = next(tensor.shape[place] for tensor in self.component.inputs if tensor.name == first)
        return InputError(
            f"{other} has {axis} {values[other].shape[other_place]} and {first} has {axis} "
            f"{values[first].shape[place]}; component {self.component.name!r} needs as many of both"
        )


@dataclass(frozen=True)
class Route:
    """The steps of a plan in running order, and what it leaves out.

    Attributes:
        steps: one per component that runs.
        reduced: what the plan leaves out.
        kept: lever name -> (how many go on, how many there are), for every lever of the components that run.
        at_least: lever name -> the fewest calls of a loop that make an answer.
    """

    steps: tuple[Step, ...]
    reduced: tuple[Reduced, ...]
    kept: dict[str, tuple[int, int]]
    at_least: dict[str, int]

    def run(self, values: dict[str, AnyArray], settings: Mapping[str, int], stop_s: float | None) -> dict[str, float]:
        """Run every step, adding what they write to `values`; return component -> milliseconds.

        Args:
            values: by name.
            settings: of every lever.
            stop_s: when the answer has to be there, on the clock of `perf_counter`: loops stop short so that the
                steps behind them, as long as they took the last time, end by then. None lets every loop run out.
        """
        if stop_s is None:
            return {step.component.name: step.run(values, settings) for step in self.steps}
        spent: dict[str, float] = {}
        for place, step in enumerate(self.steps):
            behind_s = sum(later.last_ms for later in self.steps[place + 1 :]) / 1e3
            loop = step.component.loop
            at_least = self.at_least[loop.lever] if loop else 1
            spent[step.component.name] = step.run(values, settings, stop_s - behind_s, at_least)
        return spent

    def cut_ms(self) -> float:
        """Return how much longer the last run would have taken had no loop been stopped; 0 when none was."""
        return sum(step.cut_ms for step in self.steps)

    def left_out(self, settings: Mapping[str, int]) -> tuple[tuple[Reduced, ...], dict[str, tuple[int, int]]]:
        """Return `reduced` and `kept` of the last run, whose loops may have been stopped before the plan says."""
        if not any(step.cut for step in self.steps):
            return self.reduced, self.kept
        kept = dict(self.kept)
        reduced = [entry for entry in self.reduced if entry.kind != "loop"]
        for step in self.steps:
            if step.component.loop:
                lever = step.component.loop.lever
                done, most = settings[lever] - step.cut, kept[lever][1]
                kept[lever] = (min(done, kept[lever][0]), most)
                if done < most:
                    reduced.append(Reduced(lever, step.component.name, done, most, "", "loop", 0))
        return tuple(reduced), kept


@lru_cache(maxsize=1024)
def scalar(setting: int) -> AnyArray:
    """Return a lever's setting as a graph takes it, an int64 array of no dimensions."""
    return np.asarray(setting, dtype=np.int64)


def _shared_axes(component: Component) -> tuple[tuple[str, int, str, int], ...]:
    """Return (input, axis place, other input, its axis place) for every named axis that two inputs share."""
    first: dict[str, tuple[str, int]] = {}
    shared = []
    for tensor in component.inputs:
        for place, axis in enumerate(tensor.shape):
            if isinstance(axis, str):
                owner, owner_place = first.setdefault(axis, (tensor.name, place))
                if (owner, owner_place) != (tensor.name, place):
                    shared.append((owner, owner_place, tensor.name, place))
    return tuple(shared)
