"""Runs the source model part by part, in torch or, for a ready graph, in ONNX's own evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from sanderling.compile.work import GraphPlan, Work
from sanderling.engine import AnyArray, OpenOptions, opener
from sanderling.errors import CheckpointError, RecipeError, UnsupportedError
from sanderling.inputs import check_array, prepare_image
from sanderling.manifest import FULL
from sanderling.spec import ArrayInput, Component, ImageInput, InputSpec, TensorSpec
from sanderling.text import Tokenizer

_Run: TypeAlias = Callable[[Mapping[str, AnyArray], Mapping[str, int]], dict[str, AnyArray]]
"""A component's inputs and all lever settings -> its outputs, for one call."""


class SourceRun:
    """The source model, ready to run.

    Building a part loads its weights, so the full ones are built once and kept, and of the others the last one.

    Args:
        work: the model and its graphs.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self._full: dict[str, _Run] = {}
        self._other: tuple[GraphPlan, _Run] | None = None
        self._tokenizers: dict[str, Tokenizer] = {}

    def prepared(self, spec: InputSpec, given: Any) -> dict[str, AnyArray]:
        """Return the values an input becomes, by the runtime's own preparation."""
        if isinstance(spec, ImageInput):
            return {spec.tensor: prepare_image(spec, given)}
        if isinstance(spec, ArrayInput):
            return {spec.name: check_array(spec, given)}
        if spec.tokenizer not in self._tokenizers:
            self._tokenizers[spec.tokenizer] = Tokenizer(self.work.adapted.files[spec.tokenizer])
        ids, mask = self._tokenizers[spec.tokenizer].encode(given, spec)
        return {spec.tensor: ids, spec.mask: mask} if spec.mask else {spec.tensor: ids}

    def run(
        self, component: Component, plan: GraphPlan, values: Mapping[str, AnyArray], settings: Mapping[str, int]
    ) -> dict[str, AnyArray]:
        """Return what a component answers, after as many calls as its loop has.

        Args:
            component: which.
            plan: the graph whose way of reducing tokens is followed.
            values: every value that the component reads, by name.
            settings: lever -> setting.

        Raises:
            CheckpointError: the answer has NaN.
            RecipeError: the part answers otherwise than its component says.
        """
        run = self._runner(component, plan)
        feed = {tensor.name: values[tensor.name] for tensor in component.inputs}
        times = 1 if component.loop is None else settings[component.loop.lever]
        outputs: dict[str, AnyArray] = {}
        for _ in range(times):
            outputs = run(feed, settings)
            if component.loop is not None:
                feed.update({into: outputs[out] for out, into in component.loop.carry})
        for name, array in outputs.items():
            if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any():
                raise CheckpointError(
                    f"component {component.name!r} of the source model answers with NaN in {name!r}; "
                    "check its weights and the first sample"
                )
        return outputs

    def _runner(self, component: Component, plan: GraphPlan) -> _Run:
        if plan.name == FULL:
            if component.name not in self._full:
                self._full[component.name] = self._built(component, plan)
            return self._full[component.name]
        if self._other is None or self._other[0] is not plan:
            self._other = (plan, self._built(component, plan))
        return self._other[1]

    def _built(self, component: Component, plan: GraphPlan) -> _Run:
        part = self.work.part(component.name)
        if part.build is not None:
            module = part.build(plan.reduce_at).eval()
            return lambda feed, settings: _run_module(module, component, feed, [settings[v] for v in plan.levers])
        try:
            engine = opener("reference").open(part.graph, OpenOptions())
        except UnsupportedError as error:
            raise UnsupportedError(
                f"component {component.name!r} cannot be compared with its source: {error}"
            ) from error
        return lambda feed, settings: engine.run(feed)


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
