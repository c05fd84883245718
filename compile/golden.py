"""Golden inputs and outputs: what the source model, in torch, answers at chosen settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sanderling.calibration.dataset import Sample
from sanderling.compile.source_run import SourceRun
from sanderling.compile.work import GraphPlan, Work
from sanderling.engine import AnyArray
from sanderling.errors import InputError
from sanderling.manifest import FULL, Golden, GoldenCase, GoldenInput
from sanderling.npy import array_bytes
from sanderling.spec import ImageInput, InputSpec, ModelSpec, TextInput


def make_golden(work: Work, sample: Sample) -> tuple[Golden, dict[str, bytes]]:
    """Return the self-test of a bundle and the bytes of its members.

    Cases are the full model, half the calls of every loop, and for every other graph half of its lever's maximum and
    the part's probe settings.

    Args:
        work: the model and its graphs.
        sample: inputs as a session takes them, one call.

    Raises:
        InputError: the sample does not fit the model.
        CheckpointError: the source model answers with NaN.
        RecipeError: a part answers otherwise than its component says.
    """
    members: dict[str, bytes] = {}
    source = SourceRun(work)
    values: dict[str, AnyArray] = {}
    inputs = []
    for number, spec in enumerate(work.adapted.spec.inputs):
        prepared = source.prepared(spec, sample[spec.name])
        values.update(prepared)
        inputs.append(_golden_input(number, spec, sample[spec.name], prepared, members))
    cases = [_case(source, values, settings, plans, members) for settings, plans in _wanted(work)]
    return Golden(tuple(inputs), tuple(cases)), members


def _golden_input(
    number: int, spec: InputSpec, given: Any, prepared: Mapping[str, AnyArray], members: dict[str, bytes]
) -> GoldenInput:
    """Return an input as a bundle keeps it; pictures that are not arrays, such as paths, are kept prepared."""
    if isinstance(spec, TextInput):
        if not isinstance(given, str):
            raise InputError(f"sample input {spec.name!r} is {type(given).__name__}, expected one text")
        return GoldenInput(spec.name, given, None)
    value = spec.tensor if isinstance(spec, ImageInput) else spec.name
    member = f"golden/input/{number}_{_file_name(spec.name)}.npy"
    members[member] = array_bytes(given if isinstance(given, np.ndarray) else prepared[value])
    return GoldenInput(spec.name, None, member)


def _wanted(work: Work) -> Iterator[tuple[dict[str, int], dict[str, GraphPlan]]]:
    """Yield the settings and reducing graphs of every case, the full model first."""
    model = work.adapted.spec
    full = {lever.name: lever.maximum for lever in model.levers}
    yield full, {}
    for name in sorted({component.loop.lever for component in model.components if component.loop is not None}):
        if _half(model, name) < full[name]:
            yield full | {name: _half(model, name)}, {}
    for plan in work.graphs:
        if plan.site is not None:
            lever = plan.site.lever
            for setting in sorted({_half(model, lever), *work.part(plan.component).probe}):
                yield full | {lever: setting}, {plan.component: plan}


def _half(model: ModelSpec, name: str) -> int:
    lever = model.lever(name)
    return max(lever.minimum, lever.maximum // 2)


def _case(
    source: SourceRun,
    prepared: Mapping[str, AnyArray],
    settings: dict[str, int],
    plans: Mapping[str, GraphPlan],
    members: dict[str, bytes],
) -> GoldenCase:
    """Run the model part by part in torch and record its outputs."""
    values, work = dict(prepared), source.work
    for component in work.adapted.spec.components:
        plan = plans.get(component.name, GraphPlan(component.name))
        values.update(source.run(component, plan, values, settings))
    graphs = {c.name: plans[c.name].name if c.name in plans else FULL for c in work.adapted.spec.components}
    label = "_".join(f"{c}.{g}" for c, g in sorted(graphs.items()) if g != FULL) or FULL
    chosen = "_".join(str(settings[lever]) for lever in sorted(settings))
    folder = f"golden/{label}/{chosen}" if chosen else f"golden/{label}"
    outputs = {}
    for number, name in enumerate(work.adapted.spec.outputs):
        outputs[name] = f"{folder}/{number}_{_file_name(name)}.npy"
        members[outputs[name]] = array_bytes(values[name])
    bound = max(part.bound for part in work.adapted.parts)
    return GoldenCase(settings, graphs, outputs, bound)


def _file_name(name: str) -> str:
    """Return a value's name without what bundle members must not have: ONNX allows "input:0" and "/encoder/out"."""
    return re.sub(r"[^A-Za-z0-9._@+=-]", "_", name)
