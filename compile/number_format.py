"""The contract of a number format: a serialised ONNX model in float32 in, one in another format out.

A format is an instance of a frozen dataclass whose fields are its options, in `compile/formats/<name>.py`, exported as
`FORMAT`; `dataclasses.replace` gives it other options. It works on one graph of one component, and knows nothing of
the rest of the model. Which format is kept is decided by measuring, not here.

A format is stringent in that: it refuses, with the reason, what it would leave unchanged; names, order, shapes and
dtypes of inputs and outputs stay; equal graphs, feeds and options give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from sanderling.compile.onnx_graph import FLOAT_OPSET, Layer, is_quantized, layers, opset, unmatched
from sanderling.device import Device
from sanderling.engine import AnyArray
from sanderling.errors import RecipeError
from sanderling.targets.rules.operators import parse

Feeds: TypeAlias = Sequence[Mapping[str, AnyArray]]
"""Inputs of a graph by name, one mapping per run, lever scalars included."""


class NumberFormat(Protocol):
    """How the numbers of a graph are kept and computed."""

    @property
    def name(self) -> str:
        """Its file's name in `compile/formats/`."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that open what `convert` returns and may gain by it."""
        ...

    @property
    def lossy(self) -> bool:
        """Whether outputs may differ from those of the float32 graph by more than its rounding."""
        ...

    @property
    def needs_calibration(self) -> bool:
        """Whether `convert` reads its feeds; the others take an empty sequence."""
        ...

    def refuses(self, graph: bytes, target: str) -> str | None:
        """Return why this graph cannot have this format on this target, or None when it can."""
        ...

    def convert(self, graph: bytes, feeds: Feeds, target: str) -> bytes:
        """Return the graph in this format.

        Args:
            graph: a serialised ONNX model in float32, before the target's `lower`.
            feeds: real inputs of this very graph, at the lever settings it will run at.
            target: name of the target that will open it.

        Raises:
            RecipeError: `refuses` has a reason.
            InputError: calibration feeds that cannot be used.
        """
        ...


F = TypeVar("F", bound=NumberFormat)

_EXACT_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8")
"""x86 instructions that add int8 products in 32 bits; without them pairs are added in 16 bits, which overflow."""


def for_device(chosen: F, device: Device) -> F:
    """Return the format with the options that a device's arithmetic asks for.

    On x86 without one of the dot-product instructions, uint8 times int8 saturates at 16 bits; 7-bit weights cannot
    (ONNX Runtime, "Quantize ONNX models", on reduce_range). Elsewhere a format stays as it is.
    """
    saturates = device.architecture == "x86_64" and not set(_EXACT_FLAGS) & set(device.requires)
    if not saturates or not hasattr(chosen, "reduce_range"):
        return chosen
    return cast(F, replace(cast(Any, chosen), reduce_range=True))


def refusal(chosen: NumberFormat, graph: bytes, target: str, exclude: tuple[str, ...], from_opset: int) -> str | None:
    """Return the reason that formats have in common to refuse a graph, or None.

    Args:
        chosen: the format.
        graph: a serialised ONNX model.
        target: name of the target.
        exclude: shell patterns of layers that stay in float32.
        from_opset: oldest operator set in which the format can be written.
    """
    if target not in chosen.targets:
        return f"{chosen.name} is for {', '.join(chosen.targets)}, not for {target}"
    model = parse(graph)
    if is_quantized(model):
        return "the graph is quantized already; give the float32 one"
    if opset(model) < from_opset:
        return f"the graph has operator set {opset(model)}, {chosen.name} needs {from_opset} or later; export it again"
    return _nothing_left(layers(model), exclude)


def _nothing_left(found: Sequence[Layer], exclude: tuple[str, ...]) -> str | None:
    """Return why patterns leave no layer to convert or match none, or None."""
    if not found:
        return "nothing to convert: no MatMul, Gemm or Conv with a constant float32 weight"
    stray = unmatched(found, exclude)
    if stray:
        known = ", ".join(layer.node for layer in found[:4])
        return f"exclude pattern {stray[0]!r} matches no layer; layers are {known}, ... ({len(found)} in all)"
    if all(layer.matches(exclude) for layer in found):
        return f"exclude {list(exclude)} leaves no layer to convert; name fewer layers or leave the format out"
    return None


def demand(chosen: NumberFormat, graph: bytes, target: str) -> None:
    """Refuse what the format refuses.

    Raises:
        RecipeError: with the reason.
    """
    reason = chosen.refuses(graph, target)
    if reason is not None:
        raise RecipeError(f"format {chosen.name!r} on {target}: {reason}")


__all__ = ["FLOAT_OPSET", "Feeds", "NumberFormat", "demand", "for_device", "refusal"]
