"""Frozen descriptions of a model: tensors, inputs, components, levers and how they connect.

A model is a list of components in running order. Components read and write *values* by name; a value is a model
input, after its preparation, or an output of an earlier component. A lever is an integer that trades quality for
cost. Where it acts decides who consumes it:

    site     consumed by                              example
    input    the graph, as a scalar input of its name   patches that enter the encoder
             or the preparation of an input             frames, text tokens, samples
    inner    the graph, as a scalar input of its name   tokens left after layer 2
    output   the graph, as a scalar input of its name   tokens that reach the decoder
    loop     the session, which calls a graph that often   diffusion steps, decoder stages, output tokens

This one form fits every system the project serves: a dual encoder is two components without a value in common, a
fusion model joins them by names, a generator is a component with a loop, a re-ranker has a lever `candidates`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sanderling.errors import InternalError

Axis: TypeAlias = int | str
"""A fixed length, or the name of an axis whose length is known only at run time."""

SiteKind: TypeAlias = Literal["input", "inner", "output", "loop"]


@dataclass(frozen=True)
class TensorSpec:
    """A named array: NumPy dtype name and one `Axis` per dimension; () is a scalar."""

    name: str
    dtype: str
    shape: tuple[Axis, ...]


@dataclass(frozen=True)
class ImageInput:
    """A picture and how to prepare it: resize, centre crop, scale, normalise, to [batch, channels, height, width].

    Attributes:
        name: what callers pass it as.
        tensor: the value it becomes.
        height: of the prepared picture, in pixels.
        width: of the prepared picture, in pixels.
        resize: "exact" stretches to height x width; "shortest" scales the short side to `shortest` and crops the
            centre; "none" takes only pictures of the right size.
        shortest: length of the short side for resize "shortest", in pixels.
        resample: Pillow's name of the filter: "nearest", "bilinear", "bicubic" or "lanczos".
        scale: multiplies the pixel values 0 to 255.
        mean: subtracted after scaling, one per channel.
        std: divides after that, one per channel.
    """

    name: str
    tensor: str
    height: int
    width: int
    resize: Literal["exact", "shortest", "none"]
    shortest: int
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: Literal["image"] = "image"


@dataclass(frozen=True)
class TextInput:
    """A text and how to prepare it with the tokenizer in the bundle, to int64 [batch, tokens].

    Attributes:
        name: what callers pass it as.
        tensor: the value the token ids become.
        mask: the value the 1-for-a-token mask becomes, or "" when the model takes none.
        tokenizer: the bundle member that holds the tokenizer (the `tokenizers` library's JSON).
        max_tokens: the longest text the model takes, special tokens included.
        pad_id: token id that fills short rows.
        pad_to: "longest" row of the batch, or always to "max_tokens".
    """

    name: str
    tensor: str
    mask: str
    tokenizer: str
    max_tokens: int
    pad_id: int
    pad_to: Literal["longest", "max_tokens"]
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class ArrayInput:
    """An array that goes to the model as it is; `name` is also the value's name."""

    name: str
    dtype: str
    shape: tuple[Axis, ...]
    kind: Literal["array"] = "array"


InputSpec: TypeAlias = ImageInput | TextInput | ArrayInput


def values_of(spec: InputSpec) -> tuple[str, ...]:
    """Return the names of the values that an input becomes."""
    if isinstance(spec, ArrayInput):
        return (spec.name,)
    if isinstance(spec, TextInput) and spec.mask:
        return (spec.tensor, spec.mask)
    return (spec.tensor,)


@dataclass(frozen=True)
class Lever:
    """A named integer that trades quality for cost at run time.

    Attributes:
        name: such as "tokens.image", "frames", "steps".
        unit: what it counts, such as "tokens".
        minimum: smallest legal setting.
        maximum: largest legal setting; the full model.
        default: setting when nobody plans.
    """

    name: str
    unit: str
    minimum: int
    maximum: int
    default: int


@dataclass(frozen=True)
class Loop:
    """A component that is called again and again.

    Attributes:
        lever: how often.
        carry: (output, input) pairs: the output of one call is the input of the next. The first call takes the input
            from the values as usual.
    """

    lever: str
    carry: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Component:
    """A named part of a model, compiled and placed as one graph.

    Attributes:
        name: such as "vision".
        inputs: values it reads, without its levers' scalars.
        outputs: values it writes.
        loop: set when the session calls it more than once.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    loop: Loop | None = None


@dataclass(frozen=True)
class Site:
    """A place in a component where a lever can act.

    Attributes:
        component: whose graph it is in.
        lever: what acts there.
        kind: "input", "inner" or "output".
        layer: 0 before the first layer, L after the L-th.
        report: output that lists the original places of the tokens that are left, int64 [batch, keep]; "" when none.
    """

    component: str
    lever: str
    kind: SiteKind
    layer: int
    report: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """A whole model.

    Attributes:
        name: for people, such as "clip".
        inputs: what callers pass.
        components: in running order.
        levers: all of them.
        sites: where in-graph levers can act.
        outputs: values that callers get.
    """

    name: str
    inputs: tuple[InputSpec, ...]
    components: tuple[Component, ...]
    levers: tuple[Lever, ...] = ()
    sites: tuple[Site, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise InternalError(f"model {self.name!r} is not legal: {'; '.join(problems)}")

    def component(self, name: str) -> Component:
        """Return the component of that name."""
        return next(c for c in self.components if c.name == name)

    def lever(self, name: str) -> Lever:
        """Return the lever of that name."""
        return next(lever for lever in self.levers if lever.name == name)


def _problems(model: ModelSpec) -> Iterator[str]:
    """Yield what is wrong with a model's description, one sentence each."""
    values = {value for spec in model.inputs for value in values_of(spec)}
    levers = {lever.name for lever in model.levers}
    for component in model.components:
        for tensor in component.inputs:
            if tensor.name not in values:
                yield f"component {component.name!r} reads {tensor.name!r}, which nothing before it writes"
        values |= {tensor.name for tensor in component.outputs}
        if component.loop is not None and component.loop.lever not in levers:
            yield f"component {component.name!r} loops by the unknown lever {component.loop.lever!r}"
        for out, into in component.loop.carry if component.loop is not None else ():
            if out not in {t.name for t in component.outputs} or into not in {t.name for t in component.inputs}:
                yield f"component {component.name!r} carries {out!r} to {into!r}, which are not its output and input"
    for output in model.outputs:
        if output not in values:
            yield f"output {output!r} is written by no component"
    for lever in model.levers:
        if not 1 <= lever.minimum <= lever.default <= lever.maximum:
            yield f"lever {lever.name!r} needs 1 <= minimum <= default <= maximum"
    for site in model.sites:
        if site.lever not in levers or site.component not in {c.name for c in model.components}:
            yield f"site {site} names an unknown lever or component"
