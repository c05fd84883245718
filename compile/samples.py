"""Calibration inputs of every component, recorded by running the model in torch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sanderling.calibration.dataset import Data
from sanderling.compile.source_run import SourceRun
from sanderling.compile.work import GraphPlan, Work
from sanderling.engine import AnyArray
from sanderling.errors import InputError


def with_samples(work: Work, data: Data, count: int) -> Work:
    """Return the work with the inputs that every component gets on the first `count` samples, one batch each.

    Samples stay apart because their lengths may differ. A component in a loop is recorded at its first call.

    Args:
        work: the model; its full graphs are run.
        data: samples as a session takes them.
        count: how many to use.

    Raises:
        InputError: `count` is below 1 or beyond the data, or a sample does not fit the model.
        CheckpointError: the model answers with NaN.
    """
    if not 1 <= count <= len(data.samples):
        raise InputError(f"{count} calibration samples asked for, expected 1 to {len(data.samples)}, as many as given")
    spec, source = work.adapted.spec, SourceRun(work)
    settings = {lever.name: lever.maximum for lever in spec.levers}
    recorded: dict[str, list[tuple[Tensor, ...]]] = {component.name: [] for component in spec.components}
    for sample in data.samples[:count]:
        values: dict[str, AnyArray] = {}
        for given in spec.inputs:
            values.update(source.prepared(given, sample[given.name]))
        for component in spec.components:
            tensors = tuple(torch.tensor(values[tensor.name]) for tensor in component.inputs)
            recorded[component.name].append(tensors)
            values.update(source.run(component, GraphPlan(component.name), values, settings))
    return replace(work, samples={name: tuple(batches) for name, batches in recorded.items()})
