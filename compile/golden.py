"""Golden inputs and outputs: what the source model, in torch, answers at chosen settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sanderling.calibration.dataset import Sample
from sanderling.compile.architecture import Part
from sanderling.compile.work import GraphPlan, Work
from sanderling.engine import AnyArray, OpenOptions, opener
from sanderling.errors import CheckpointError, InputError, RecipeError, UnsupportedError
from sanderling.inputs import check_array, prepare_image
from sanderling.manifest import FULL, Golden, GoldenCase, GoldenInput
from sanderling.npy import array_bytes
from sanderling.spec import ArrayInput, Component, ImageInput, InputSpec, ModelSpec, TensorSpec, TextInput
from sanderling.text import Tokenizer


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
    values: dict[str, AnyArray] = {}
    inputs = []
    for number, spec in enumerate(work.adapted.spec.inputs):
        prepared = prepared_input(work, spec, sample[spec.name])
        values.update(prepared)
        inputs.append(_golden_input(number, spec, sample[spec.name], prepared, members))
    cases = [_case(work, values, settings, plans, members) for settings, plans in _wanted(work)]
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


def prepared_input(work: Work, spec: InputSpec, given: Any) -> dict[str, AnyArray]:
    """Return the values an input becomes, by the runtime's own preparation."""
    if isinstance(spec, ImageInput):
        return {spec.tensor: prepare_image(spec, given)}
    if isinstance(spec, ArrayInput):
        return {spec.name: check_array(spec, given)}
    ids, mask = Tokenizer(work.adapted.files[spec.tokenizer]).encode(given, spec)
    return {spec.tensor: ids, spec.mask: mask} if spec.mask else {spec.tensor: ids}


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
        values.update(run_part(work, component, plan, values, settings))
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


def run_part(
    work: Work, component: Component, plan: GraphPlan, values: dict[str, AnyArray], settings: Mapping[str, int]
) -> dict[str, AnyArray]:
    """Return what a component of the source model answers, after as many calls as its loop has.

    Args:
        work: the model.
        component: which.
        plan: the graph whose way of reducing tokens is followed.
        values: every value that the component reads, by name.
        settings: lever -> setting.

    Raises:
        CheckpointError: the answer has NaN.
        RecipeError: the part answers otherwise than its component says.
    """
    part = work.part(component.name)
    run = _runner(part, component, plan, settings)
    feed = {tensor.name: values[tensor.name] for tensor in component.inputs}
    times = 1 if component.loop is None else settings[component.loop.lever]
    outputs: dict[str, AnyArray] = {}
    for _ in range(times):
        outputs = run(feed)
        if component.loop is not None:
            feed.update({into: outputs[out] for out, into in component.loop.carry})
    for name, array in outputs.items():
        if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any():
            raise CheckpointError(
                f"component {component.name!r} of the source model answers with NaN in {name!r}; "
                "check its weights and the first sample"
            )
    return outputs


def _runner(
    part: Part, component: Component, plan: GraphPlan, settings: Mapping[str, int]
) -> Callable[[Mapping[str, AnyArray]], dict[str, AnyArray]]:
    """Return what runs a part once: its torch module, or for a ready graph ONNX's own evaluator."""
    if part.build is not None:
        module, levers = part.build(plan.reduce_at).eval(), [settings[lever] for lever in plan.levers]
        return lambda feed: _run_module(module, component, feed, levers)
    try:
        return opener("reference").open(part.graph, OpenOptions()).run
    except UnsupportedError as error:
        raise UnsupportedError(f"component {component.name!r} cannot be compared with its source: {error}") from error


def _run_module(
    module: nn.Module, component: Component, feed: Mapping[str, AnyArray], levers: list[int]
) -> dict[str, AnyArray]:
    arguments = [torch.from_numpy(np.array(feed[tensor.name])) for tensor in component.inputs]
    with torch.inference_mode():
        returned = module(*arguments, *(torch.tensor(setting) for setting in levers))
    tensors = returned if isinstance(returned, tuple) else (returned,)
    if len(tensors) != len(component.outputs) or not all(map(_fits, component.outputs, tensors)):
        raise RecipeError(
            f"component {component.name!r} returned {', '.join(map(_words, tensors))}; its outputs are described as "
            f"{', '.join(f'{spec.dtype} {list(spec.shape)}' for spec in component.outputs)}; correct one of the two"
        )
    return {spec.name: tensor.numpy() for spec, tensor in zip(component.outputs, tensors, strict=True)}


def _fits(spec: TensorSpec, value: object) -> bool:
    if not isinstance(value, Tensor) or value.ndim != len(spec.shape):
        return False
    lengths = all(axis == length for axis, length in zip(spec.shape, value.shape, strict=True) if isinstance(axis, int))
    return lengths and str(value.dtype) == f"torch.{spec.dtype}"


def _words(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__
