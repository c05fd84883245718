"""A route: what one plan runs, with everything looked up beforehand that is the same for every call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter

import numpy as np

from sanderling.engine import AnyArray, Engine
from sanderling.errors import InputError
from sanderling.receipt import Reduced
from sanderling.spec import Component


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

    def run(self, values: dict[str, AnyArray], settings: Mapping[str, int]) -> float:
        """Run the component, adding what it writes to `values`; return its milliseconds.

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
            for _ in range(settings[loop.lever]):
                outputs = self.engine.run(feed)
                feed.update({into: outputs[out] for out, into in loop.carry})
            values.update(outputs)
        return (perf_counter() - begun) * 1e3

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
    """The steps of a plan in running order, and what it leaves out."""

    steps: tuple[Step, ...]
    reduced: tuple[Reduced, ...]


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
