"""Checks what a compile is given before any long work begins."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sanderling.calibration.dataset import Data
from sanderling.compile.architecture import Adapted, Part
from sanderling.errors import InputError, RecipeError, UserError
from sanderling.spec import Component, ModelSpec, TextInput
from sanderling.text import Tokenizer


def check_output(path: Path) -> None:
    """Check that a bundle can be written at a path.

    Raises:
        UserError: it is a folder, or its folder is missing or closed to this user.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise UserError(
            f"cannot write {path}: this is a folder; give the path of a file, such as {path / 'model.sand'}"
        )
    if not folder.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}; make it, or choose another")
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: you may not write to {folder}; choose another folder")


def check_samples(model: ModelSpec, data: Data) -> None:
    """Check that every sample has exactly the model's inputs, so that every component runs on every sample.

    Raises:
        InputError: the message has the first sample that does not, and what it has.
    """
    wanted = sorted(spec.name for spec in model.inputs)
    for number, sample in enumerate(data.samples):
        if sorted(sample) != wanted:
            raise InputError(
                f"sample {number} has inputs {', '.join(sorted(sample)) or 'none'}; "
                f"model {model.name!r} takes {', '.join(wanted)}, and a sample needs all of them"
            )


def check_adapted(adapted: Adapted) -> None:
    """Check that a split model is complete and fits together.

    Raises:
        RecipeError: it is not; the message lists everything that is wrong.
    """
    problems = [*_part_problems(adapted), *_file_problems(adapted)]
    if not adapted.spec.outputs:
        problems.append("it names no outputs; list the values that callers get")
    if problems:
        raise RecipeError(f"model {adapted.spec.name!r} is not adapted rightly: {'; '.join(problems)}")


def _part_problems(adapted: Adapted) -> Iterator[str]:
    parts, components = [p.component for p in adapted.parts], [c.name for c in adapted.spec.components]
    if Counter(parts) != Counter(components):
        yield f"it has parts for {', '.join(parts) or 'nothing'}, expected one for each of {', '.join(components)}"
        return
    for part in adapted.parts:
        component = adapted.spec.component(part.component)
        if (part.build is None) == (part.graph == b""):
            yield f"part {part.component!r} needs either `build` or `graph`, and not both"
        yield from _example_problems(part, component)
        yield from _probe_problems(part, adapted.spec)


def _example_problems(part: Part, component: Component) -> Iterator[str]:
    if len(part.example) != len(component.inputs):
        yield f"part {part.component!r} has {len(part.example)} example tensors for {len(component.inputs)} inputs"
        return
    for spec, tensor in zip(component.inputs, part.example, strict=True):
        where = f"the example of part {part.component!r} for {spec.name!r}"
        came = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        axes = list(zip(spec.shape, tensor.shape, strict=False))
        fits = len(axes) == tensor.ndim == len(spec.shape) and all(isinstance(a, str) or a == n for a, n in axes)
        if f"torch.{spec.dtype}" != str(tensor.dtype) or not fits:
            yield f"{where} is {came}, expected {spec.dtype} {list(spec.shape)}"
        elif any(isinstance(axis, str) and length < 2 for axis, length in axes):
            # The exporter takes a length of 0 or 1 for a constant, whatever it is told.
            yield f"{where} is {came}; each named axis of {list(spec.shape)} needs a length of at least 2 to stay free"


def _probe_problems(part: Part, model: ModelSpec) -> Iterator[str]:
    for site in model.sites:
        lever = model.lever(site.lever)
        outside = [setting for setting in part.probe if not lever.minimum <= setting <= lever.maximum]
        if site.component == part.component and outside:
            yield f"part {part.component!r} has probe {outside[0]}, expected {lever.minimum} to {lever.maximum}"
            return


def _file_problems(adapted: Adapted) -> Iterator[str]:
    wanted = {spec.tokenizer for spec in adapted.spec.inputs if isinstance(spec, TextInput)}
    for name in sorted(wanted - set(adapted.files)):
        yield f"its files lack {name!r}, the tokenizer of an input"
    for name in sorted(set(adapted.files) - wanted):
        yield f"its file {name!r} belongs to no input"
    for name in sorted(wanted & set(adapted.files)):
        try:
            Tokenizer(adapted.files[name])
        except ValueError as error:
            yield f"its file {name!r} is no tokenizer: {error}"
