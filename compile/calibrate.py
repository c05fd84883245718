"""Calibration inputs of every graph, at the lever settings it will run at.

Ranges learned at full tokens only are wrong where a rung keeps few: what reaches the later layers differs. So every
sample is run through the model in torch at one of the settings that will be measured, the settings taking turns, and
every graph sees what its component really gets there.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from sanderling.calibration.dataset import Data, Sample
from sanderling.compile.source_run import SourceRun
from sanderling.compile.work import GraphPlan, Work
from sanderling.engine import AnyArray
from sanderling.route import scalar

Feed = dict[str, AnyArray]
"""A graph's inputs by name, lever scalars included."""


class Calibration:
    """Feeds of every graph, recorded when one is first asked for.

    Args:
        work: the model and its graphs.
        samples: inputs as a session takes them; `work.calibration_samples` of them are used.
    """

    def __init__(self, work: Work, samples: Sequence[Sample]) -> None:
        self._work = work
        self._samples = samples[: work.calibration_samples]
        self._feeds: dict[tuple[str, str], list[Feed]] = {}

    def digest(self) -> str:
        """Return the digest of everything that decides the feeds besides the model itself."""
        return Data(self._samples).digest()

    def feeds(self, plan: GraphPlan) -> list[Feed]:
        """Return what a graph gets in the calls that are recorded, in the order of the samples.

        Raises:
            InputError: a sample does not fit the model.
            CheckpointError: the source model answers with NaN.
        """
        if not self._feeds:
            self._record()
        return self._feeds[plan.component, plan.name]

    def _record(self) -> None:
        source = SourceRun(self._work)
        model = self._work.adapted.spec
        full = {lever.name: lever.maximum for lever in model.levers}
        prepared = [
            {name: array for spec in model.inputs for name, array in source.prepared(spec, sample[spec.name]).items()}
            for sample in self._samples
        ]
        for values in prepared:
            self._run(source, values, None, full)
        for plan in self._work.graphs:  # graph by graph, because building one loads its weights
            for values, setting in zip(prepared, itertools.cycle(plan.settings), strict=False):
                if plan.site is not None:
                    self._run(source, values, plan, full | {plan.site.lever: setting})

    def _run(
        self, source: SourceRun, prepared: Mapping[str, AnyArray], reduced: GraphPlan | None, settings: dict[str, int]
    ) -> None:
        """Run one call, keeping what graphs get: all in the full model, else the reduced one and those behind it."""
        values, changed = dict(prepared), set[str]()
        for component in self._work.adapted.spec.components:
            is_reduced = reduced is not None and reduced.component == component.name
            plan = reduced if reduced is not None and is_reduced else GraphPlan(component.name)
            inputs = {tensor.name: values[tensor.name] for tensor in component.inputs}
            new = is_reduced or not changed.isdisjoint(inputs)
            if new or reduced is None:
                levers = {lever: scalar(settings[lever]) for lever in plan.levers}
                self._feeds.setdefault((component.name, plan.name), []).append(inputs | levers)
            if new:
                changed |= {tensor.name for tensor in component.outputs}
            values.update(source.run(component, plan, values, settings))
