"""Re-use of what earlier calls computed: a component whose inputs did not change is not run again.

reuse = Reuse()
session.run({"image": frame, "text": "how many circles are there"}, reuse=reuse)
session.run({"image": frame, "text": "which colour is the star"}, reuse=reuse).receipt.reused    # ("vision",)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sanderling.budget import Plan
from sanderling.engine import AnyArray, Engine
from sanderling.errors import InputError
from sanderling.frozen import frozen, is_frozen
from sanderling.ladder import Ladder
from sanderling.prepare import Preparer
from sanderling.route import Step
from sanderling.spec import TextInput

_SAMPLED = 64
"""Values compared first: most arrays that differ do so here, at a hundredth of the cost of a whole comparison."""


MOST_OF_IT = 0.5
"""Share of a call's typical time that must have been run for the call to say how fast the device is."""


@dataclass(frozen=True)
class _Remembered:
    """One run of a component: on what, at which settings, and what came out."""

    engine: Engine
    settings: tuple[int, ...]
    inputs: tuple[AnyArray, ...]
    outputs: dict[str, AnyArray]


class Reuse:
    """Remembers component outputs by their exact inputs, a bounded number for each component.

    A component is re-used only where it would compute the same: same engine, same lever settings, and inputs equal in
    dtype, shape and every value. What it hands out is shared between calls, so outputs of calls with re-use are
    read-only arrays; copy one to change it. One object may serve several sessions and threads; keep one for each
    camera, so that they do not push each other's frames out.

    Args:
        entries: runs remembered for each component. Memory is bounded by their inputs and outputs.
    """

    def __init__(self, entries: int = 4) -> None:
        if entries < 1:
            raise InputError(f"entries is {entries}, expected at least 1; pass no `reuse` to remember nothing")
        self.entries = entries
        self._runs: dict[str, deque[_Remembered]] = {}
        self._prepared: dict[tuple[int, str], tuple[Preparer, object, dict[str, AnyArray]]] = {}
        self._lock = threading.Lock()

    def prepare(self, preparer: Preparer, inputs: Mapping[str, Any]) -> dict[str, AnyArray]:
        """Return the values that the inputs become, preparing none twice that cannot have changed.

        Those are texts equal to the last one, and the very array of the last call where it is read-only to its root.

        Raises:
            InputError: as `Preparer.values`.
        """
        texts = {spec.name for spec in preparer.model.inputs if isinstance(spec, TextInput)}
        values: dict[str, AnyArray] = {}
        for name, given in inputs.items():
            key = (id(preparer), name)
            with self._lock:
                kept = self._prepared.get(key)
            if kept is None or kept[0] is not preparer or not _certainly_same(kept[1], given, name in texts):
                kept = (preparer, given, _sealed(preparer.values({name: given}), given))
                with self._lock:
                    self._prepared[key] = kept
            values.update(kept[2])
        return values

    def run(
        self, steps: Sequence[Step], values: dict[str, AnyArray], settings: Mapping[str, int]
    ) -> tuple[dict[str, float], tuple[str, ...]]:
        """Run the steps that have to run, adding what all of them write to `values`.

        Returns:
            component -> milliseconds for those that ran, and the names of those that did not.

        Raises:
            InputError: as `Step.run`.
        """
        spent_ms: dict[str, float] = {}
        reused = []
        for step in steps:
            inputs = tuple(values[name] for name in step.inputs)
            outputs = self._find(step, step.depends_on(settings), inputs)
            if outputs is None:
                spent_ms[step.component.name] = step.run(values, settings)
                self._remember(step, step.depends_on(settings), inputs, values)
            else:
                reused.append(step.component.name)
                values.update(outputs)
        return spent_ms, tuple(reused)

    def forget(self) -> None:
        """Let go of everything remembered."""
        with self._lock:
            self._runs.clear()
            self._prepared.clear()

    def _find(self, step: Step, settings: tuple[int, ...], inputs: tuple[AnyArray, ...]) -> dict[str, AnyArray] | None:
        with self._lock:
            known = tuple(self._runs.get(step.component.name, ()))
        for run in known:
            alike = run.engine is step.engine and run.settings == settings
            if alike and all(_equal(old, new) for old, new in zip(run.inputs, inputs, strict=True)):
                return run.outputs
        return None

    def _remember(
        self, step: Step, settings: tuple[int, ...], inputs: tuple[AnyArray, ...], values: Mapping[str, AnyArray]
    ) -> None:
        outputs = {tensor.name: values[tensor.name] for tensor in step.component.outputs}
        for array in outputs.values():
            array.flags.writeable = False
        run = _Remembered(step.engine, settings, tuple(frozen(array) for array in inputs), outputs)
        with self._lock:
            # The newest comes first, because the frame just encoded is the one most likely asked about again.
            self._runs.setdefault(step.component.name, deque(maxlen=self.entries)).appendleft(run)


def comparable(
    ladder: Ladder, plan: Plan, spent_ms: float, components_ms: Mapping[str, float], reused: Sequence[str]
) -> float:
    """Return how long a call would have taken had everything run, or 0 when it says nothing about the device.

    After re-use only the components that ran are compared, and only where they are most of the call: a text encoder
    of a fraction of a millisecond says little about how a vision encoder would have run.

    Args:
        ladder: has the components' medians.
        plan: what was carried out.
        spent_ms: the whole call.
        components_ms: component -> milliseconds, for those that ran.
        reused: those that did not.
    """
    if not reused:
        return spent_ms
    alike = (r for r in ladder.rungs if r.settings == plan.settings and r.graphs == plan.graphs)
    costs = next((rung.components for rung in alike), {})
    typical_ms = sum(costs[name].p50_ms for name in components_ms if name in costs)
    if not plan.typical_ms or typical_ms < MOST_OF_IT * plan.typical_ms:
        return 0.0
    return plan.typical_ms * sum(components_ms.values()) / typical_ms


def _sealed(values: dict[str, AnyArray], given: object) -> dict[str, AnyArray]:
    """Return the values, read-only where preparation made the array; a caller's own array stays as it was."""
    for array in values.values():
        if array.base is None and array is not given:
            array.flags.writeable = False
    return values


def _certainly_same(old: object, new: object, is_text: bool) -> bool:
    if is_text:
        return isinstance(new, str) and old == new
    return new is old and isinstance(new, np.ndarray) and is_frozen(new)


def _equal(old: AnyArray, new: AnyArray) -> bool:
    if old is new:
        return True
    if old.dtype != new.dtype or old.shape != new.shape:
        return False
    stride = max(1, old.size // _SAMPLED)
    sampled = np.array_equal(old.reshape(-1)[::stride], new.reshape(-1)[::stride])
    return sampled and np.array_equal(old, new)
