"""From graph plans to graphs in every target's form, re-using what an earlier compile made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from sanderling import lookup
from sanderling.compile.cache import Cache, Lowered, digest, package_digest, versions
from sanderling.compile.calibrate import Calibration
from sanderling.compile.export import export
from sanderling.compile.fingerprint import module_digest
from sanderling.compile.number_format import NumberFormat, for_device
from sanderling.compile.strip import strip
from sanderling.compile.work import GraphPlan, Work
from sanderling.device import Device
from sanderling.errors import RecipeError, UnsupportedError
from sanderling.manifest import FLOAT32, Graph, Variant
from sanderling.targets import Target


@dataclass(frozen=True)
class Made:
    """Every graph of a model, its members, how many graphs came from the cache, and forms left out with reasons."""

    graphs: tuple[Graph, ...]
    members: dict[str, bytes]
    reused: int
    notes: tuple[str, ...]


def lower_all(
    work: Work,
    targets: Sequence[str],
    device: Device,
    calibration: Calibration,
    cache: Cache,
    progress: Callable[[str, int, int], None],
) -> Made:
    """Return every planned graph, exported, in every offered number format, and lowered for every target.

    Args:
        work: the model, the graphs planned for it and the formats offered for its components.
        targets: names of the targets.
        device: decides details of a format, such as how many bits its products may take.
        calibration: inputs of the graphs, for the formats that learn ranges.
        cache: where lowered graphs are remembered.
        progress: told after every graph.

    Raises:
        UnsupportedError: a graph cannot be exported, or a target cannot run it; the message names the component.
        RecipeError: a format is refused everywhere it is offered.
    """
    graphs: list[Graph] = []
    members: dict[str, bytes] = {}
    reused = 0
    notes: list[str] = []
    common = digest(package_digest(), " ".join(targets), device.name, repr(sorted(versions().items())))
    for number, plan in enumerate(work.graphs, start=1):
        source = _Source(work, plan)
        formats = [for_device(offered, device) for offered in work.formats.get(plan.component, ())]
        learned = calibration.digest() if any(offered.needs_calibration for offered in formats) else ""
        key = digest(common, source.digest(), repr(formats), learned)
        lowered = cache.get(key)
        reused += lowered is not None
        if lowered is None:
            lowered = _Lowering(plan, formats, calibration).lower(source.graph(), targets)
            cache.put(key, lowered)
        graphs.append(_graph(plan, lowered.variants))
        members.update(lowered.members)
        notes += lowered.notes
        progress(f"lowering {plan.component}/{plan.name}", number, len(work.graphs))
    _refuse_unused(work, graphs, notes)
    return Made(tuple(graphs), members, reused, tuple(dict.fromkeys(notes)))


class _Source:
    """What one planned graph is made from."""

    def __init__(self, work: Work, plan: GraphPlan) -> None:
        spec = work.adapted.spec
        self._part = work.part(plan.component)
        self._plan = plan
        self._component = spec.component(plan.component)
        self._module = None if self._part.build is None else self._part.build(plan.reduce_at)
        # Traced at half: a setting of 0, 1 or all would let the exporter treat it as a constant.
        self._levers = {lever: max(2, spec.lever(lever).maximum // 2) for lever in plan.levers}

    def digest(self) -> str:
        """Return the digest of all that decides what the graph computes."""
        source = digest(self._part.graph) if self._module is None else module_digest(self._module)
        example = [(str(tensor.dtype), tuple(tensor.shape)) for tensor in self._part.example]
        plan = self._plan
        return digest(source, repr((self._component, plan.name, plan.reduce_at, plan.site, self._levers, example)))

    def graph(self) -> bytes:
        """Return the graph as a serialised ONNX model."""
        if self._module is None:
            return self._part.graph
        return export(self._module, self._component, self._part.example, self._levers)


class _Lowering:
    """Makes one planned graph in every format that its targets take."""

    def __init__(self, plan: GraphPlan, formats: Sequence[NumberFormat], calibration: Calibration) -> None:
        self._plan = plan
        self._formats = formats
        self._calibration = calibration
        self._variants: list[Variant] = []
        self._members: dict[str, bytes] = {}
        self._notes: list[str] = []

    def lower(self, graph: bytes, targets: Sequence[str]) -> Lowered:
        """Return the graph's variants, a serialised ONNX model in float32 given."""
        for name in targets:
            target = cast(Target, lookup.find("target", name))
            self._check(target, graph)
            self._add(target, FLOAT32, graph)
            for offered in self._formats:
                reason = offered.refuses(graph, name)
                if reason is None:
                    feeds = self._calibration.feeds(self._plan) if offered.needs_calibration else ()
                    self._add(target, offered.name, offered.convert(graph, feeds, name))
                else:
                    self._notes.append(f"{self._plan.component}: no {offered.name} on {name}: {reason}")
        return Lowered(tuple(self._variants), self._members, tuple(self._notes))

    def _check(self, target: Target, graph: bytes) -> None:
        refusals = target.refusals(graph)
        if refusals:
            raise UnsupportedError(
                f"{target.name} cannot run component {self._plan.component!r}: {refusals[0]} ({len(refusals)} such "
                f"nodes); leave {target.name} out of the recipe's targets, or replace the operator"
            )

    def _add(self, target: Target, number_format: str, graph: bytes) -> None:
        stripped, weights, blobs = strip(target.lower(graph))
        member = f"graphs/{self._plan.component}/{self._plan.name}.{target.name}.{number_format}.onnx"
        self._variants.append(Variant(target.name, number_format, member, weights))
        self._members[member] = stripped
        self._members.update(blobs)


def _refuse_unused(work: Work, graphs: Sequence[Graph], notes: Sequence[str]) -> None:
    """Refuse a format that no graph took: the recipe asks for something that would change nothing."""
    made = {variant.format for graph in graphs for variant in graph.variants}
    offered = {offered.name for formats in work.formats.values() for offered in formats}
    for name in sorted(offered - made):
        reasons = "; ".join(sorted({note for note in notes if f" no {name} on " in note}))
        raise RecipeError(f"format {name!r} can be had nowhere: {reasons}; leave it out of the recipe")


def _graph(plan: GraphPlan, variants: tuple[Variant, ...]) -> Graph:
    return Graph(
        component=plan.component,
        name=plan.name,
        levers=plan.levers,
        reducer="" if plan.reduce_at is None else plan.reduce_at.reducer.name,
        kind=None if plan.site is None else plan.site.kind,
        layer=0 if plan.site is None else plan.site.layer,
        report="" if plan.site is None else plan.site.report,
        variants=variants,
    )
