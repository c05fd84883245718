"""Walks a component of a bundle layer by layer: where a number format, or an engine, drifts from float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sanderling.bundle import Bundle
from sanderling.calibration.dataset import Sample
from sanderling.compile.locate import Located, locate
from sanderling.engine import AnyArray, usable_cores
from sanderling.errors import UnknownNameError
from sanderling.manifest import FLOAT32, FULL, Placement, Variant
from sanderling.opening import open_graph
from sanderling.prepare import Preparer
from sanderling.route import Step
from sanderling.weights import restore


@dataclass(frozen=True)
class LocatedIn:
    """What was walked, and what was found.

    Attributes:
        component: whose full graph.
        variant: the variant that was held against float32.
        located: the layers.
    """

    component: str
    variant: Variant
    located: Located


def locate_in(bundle: Bundle, component: str, number_format: str, samples: Sequence[Sample], bound: float) -> LocatedIn:
    """Return where the full graph of a component drifts from float32 in another number format.

    Args:
        bundle: has the component in both formats.
        component: its name.
        number_format: the one to look at.
        samples: inputs as a session takes them.
        bound: cosine that every tensor of every sample has to keep.

    Raises:
        UnknownNameError: no such component, or the bundle does not have it in that format.
    """
    preparer = Preparer(bundle.manifest().model, bundle)
    if component not in preparer.graphs:
        raise UnknownNameError("component", component, preparer.graphs)
    variants = {variant.format: variant for variant in preparer.graphs[component][FULL].variants}
    if number_format not in variants or number_format == FLOAT32:
        raise UnknownNameError(f"format of component {component!r}", number_format, set(variants) - {FLOAT32})
    converted = variants[number_format]
    plain = next(
        v for v in preparer.graphs[component][FULL].variants if (v.target, v.format) == (converted.target, FLOAT32)
    )
    feeds = _feeds(bundle, preparer, component, plain.target, samples)
    before, after = (restore(bundle.read(v.member), v.weights, bundle.read) for v in (plain, converted))
    found = locate(before, after, feeds, bound=bound, targets=(plain.target, converted.target))
    return LocatedIn(component, converted, found)


def _feeds(
    bundle: Bundle, preparer: Preparer, component: str, target: str, samples: Sequence[Sample]
) -> list[dict[str, AnyArray]]:
    """Return what a component's full graph is given for every sample, the components before it run in float32."""
    placement = Placement(target, FLOAT32, usable_cores())
    model = bundle.manifest().model
    place = [c.name for c in model.components].index(component)
    before = [
        Step(c, open_graph(bundle, preparer.graphs[c.name][FULL], placement), ()) for c in model.components[:place]
    ]
    settings = {lever.name: lever.maximum for lever in model.levers}
    feeds = []
    for sample in samples:
        values = preparer.values(sample)
        for step in before:
            step.run(values, settings)
        feeds.append({tensor.name: values[tensor.name] for tensor in model.component(component).inputs})
    return feeds
