"""Golden inputs and outputs: what the source model, in torch, answers at chosen settings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sanderling.calibration.dataset import Sample
from sanderling.compile.work import GraphPlan, Work
from sanderling.engine import AnyArray, OpenOptions, opener
from sanderling.errors import InputError
from sanderling.inputs import check_array, prepare_image
from sanderling.manifest import FULL, Golden, GoldenCase, GoldenInput
from sanderling.npy import array_bytes
from sanderling.spec import ArrayInput, Component, ImageInput
from sanderling.text import Tokenizer
from torch import nn


def make_golden(work: Work, sample: Sample) -> tuple[Golden, dict[str, bytes]]:
    """Return the self-test of a bundle and the bytes of its members.

    Cases are the full model, and for every other graph half of its lever's maximum and the part's probe settings.

    Args:
        work: the model and its graphs.
        sample: inputs as a session takes them, one call.
    """
    members: dict[str, bytes] = {}
    inputs = tuple(_golden_input(name, given, members) for name, given in sorted(sample.items()))
    values = _prepared(work, sample)
    full = {lever.name: lever.default for lever in work.adapted.spec.levers}
    cases = [_case(work, values, full, {}, members)]
    for plan in work.graphs:
        if plan.site is None:
            continue
        lever = work.adapted.spec.lever(plan.site.lever)
        for setting in sorted({lever.maximum // 2, *work.part(plan.component).probe}):
            settings = full | {lever.name: setting}
            cases.append(_case(work, values, settings, {plan.component: plan}, members))
    return Golden(inputs, tuple(cases)), members


def _golden_input(name: str, given: object, members: dict[str, bytes]) -> GoldenInput:
    if isinstance(given, str):
        return GoldenInput(name, given, None)
    if not isinstance(given, np.ndarray):
        raise InputError(f"sample input {name!r} is {type(given).__name__}, expected a str or a NumPy array")
    member = f"golden/input/{name}.npy"
    members[member] = array_bytes(given)
    return GoldenInput(name, None, member)


def _prepared(work: Work, sample: Sample) -> dict[str, AnyArray]:
    """Return the values the sample becomes, by the runtime's own preparation."""
    values: dict[str, AnyArray] = {}
    for spec in work.adapted.spec.inputs:
        if spec.name not in sample:
            continue
        given = sample[spec.name]
        if isinstance(spec, ImageInput):
            values[spec.tensor] = prepare_image(spec, given)
        elif isinstance(spec, ArrayInput):
            values[spec.name] = check_array(spec, given)
        else:
            ids, mask = Tokenizer(work.adapted.files[spec.tokenizer]).encode(given, spec)
            values.update({spec.tensor: ids, spec.mask: mask} if spec.mask else {spec.tensor: ids})
    return values


def _case(
    work: Work,
    prepared: Mapping[str, AnyArray],
    settings: dict[str, int],
    plans: Mapping[str, GraphPlan],
    members: dict[str, bytes],
) -> GoldenCase:
    """Run the model part by part in torch and record its outputs."""
    values = dict(prepared)
    for component in work.adapted.spec.components:
        plan = plans.get(component.name, GraphPlan(component.name))
        values.update(_run_part(work, component, plan, values, settings))
    graphs = {c.name: plans[c.name].name if c.name in plans else FULL for c in work.adapted.spec.components}
    label = "_".join(f"{c}.{g}" for c, g in sorted(graphs.items()) if g != FULL) or FULL
    chosen = "_".join(str(settings[lever]) for lever in sorted(settings))
    outputs = {}
    for name in work.adapted.spec.outputs:
        outputs[name] = f"golden/{label}/{chosen}/{name}.npy"
        members[outputs[name]] = array_bytes(values[name])
    bound = max(part.bound for part in work.adapted.parts)
    return GoldenCase(settings, graphs, outputs, bound)


def _run_part(
    work: Work, component: Component, plan: GraphPlan, values: dict[str, AnyArray], settings: Mapping[str, int]
) -> dict[str, AnyArray]:
    part = work.part(component.name)
    feed = {tensor.name: values[tensor.name] for tensor in component.inputs}
    times = 1 if component.loop is None else settings[component.loop.lever]
    module = None if part.build is None else part.build(plan.reduce_at).eval()
    outputs: dict[str, AnyArray] = {}
    for _ in range(times):
        if module is None:
            outputs = opener("reference").open(part.graph, OpenOptions()).run(feed)
        else:
            outputs = _run_module(module, component, feed, [settings[lever] for lever in plan.levers])
        if component.loop is not None:
            feed.update({into: outputs[out] for out, into in component.loop.carry})
    return outputs


def _run_module(
    module: nn.Module, component: Component, feed: Mapping[str, AnyArray], levers: list[int]
) -> dict[str, AnyArray]:
    arguments = [torch.from_numpy(np.array(feed[tensor.name])) for tensor in component.inputs]
    with torch.inference_mode():
        returned = module(*arguments, *(torch.tensor(setting) for setting in levers))
    tensors = returned if isinstance(returned, tuple) else (returned,)
    return {spec.name: tensor.numpy() for spec, tensor in zip(component.outputs, tensors, strict=True)}
