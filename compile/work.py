"""What travels through the passes: the model and the ways each component will be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.number_format import NumberFormat
from sanderling.manifest import FULL
from sanderling.spec import Site


@dataclass(frozen=True)
class GraphPlan:
    """One graph to make of a component.

    Attributes:
        component: which.
        name: "full", or reducer and layer such as "saliency@2".
        reduce_at: how it reduces tokens; None for "full".
        site: the place in the model's spec; None for "full".
        settings: lever settings to measure it at, largest first; empty for "full".
    """

    component: str
    name: str = FULL
    reduce_at: ReduceAt | None = None
    site: Site | None = None
    settings: tuple[int, ...] = ()

    @property
    def levers(self) -> tuple[str, ...]:
        """Scalar inputs of the graph besides the component's own."""
        return () if self.site is None else (self.site.lever,)


@dataclass(frozen=True)
class Work:
    """A model on its way through the passes.

    Attributes:
        adapted: the split model.
        graphs: what will be exported; always one "full" graph per component.
        formats: component -> number formats to make its graphs in, besides float32.
        calibration_samples: samples that formats learn ranges from.
        samples: component -> batches of prepared inputs, in the order of its `forward`, for passes that need data;
            `sanderling.compile.samples` records them.
    """

    adapted: Adapted
    graphs: tuple[GraphPlan, ...]
    formats: Mapping[str, tuple[NumberFormat, ...]] = field(default_factory=dict)
    calibration_samples: int = 32
    samples: Mapping[str, tuple[tuple[Tensor, ...], ...]] = field(default_factory=dict)

    def part(self, component: str) -> Part:
        """Return the source of a component."""
        return next(p for p in self.adapted.parts if p.component == component)


def begin(adapted: Adapted) -> Work:
    """Return the work before any pass: one full graph per component."""
    return Work(adapted, tuple(GraphPlan(part.component) for part in adapted.parts))
