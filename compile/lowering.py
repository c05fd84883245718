"""From graph plans to graphs in every target's form, re-using what an earlier compile made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from sanderling import lookup
from sanderling.compile.cache import Cache, Lowered, digest, package_digest, versions
from sanderling.compile.export import export
from sanderling.compile.fingerprint import module_digest
from sanderling.compile.strip import strip
from sanderling.compile.work import GraphPlan, Work
from sanderling.errors import UnsupportedError
from sanderling.manifest import Graph, Variant
from sanderling.targets import Target


@dataclass(frozen=True)
class Made:
    """Every graph of a model, the bytes of their members, and how many came from the cache."""

    graphs: tuple[Graph, ...]
    members: dict[str, bytes]
    reused: int


def lower_all(work: Work, targets: Sequence[str], cache: Cache, progress: Callable[[str, int, int], None]) -> Made:
    """Return every planned graph, exported and lowered for every target.

    Args:
        work: the model and the graphs planned for it.
        targets: names of the targets.
        cache: where lowered graphs are remembered.
        progress: told after every graph.

    Raises:
        UnsupportedError: a graph cannot be exported, or a target cannot run it; the message names the component.
    """
    graphs: list[Graph] = []
    members: dict[str, bytes] = {}
    reused = 0
    common = digest(package_digest(), " ".join(targets), repr(sorted(versions().items())))
    for number, plan in enumerate(work.graphs, start=1):
        source = _Source(work, plan)
        key = digest(common, source.digest())
        lowered = cache.get(key)
        reused += lowered is not None
        if lowered is None:
            lowered = _lower(source.graph(), plan, targets)
            cache.put(key, lowered)
        graphs.append(_graph(plan, lowered.variants))
        members.update(lowered.members)
        progress(f"lowering {plan.component}/{plan.name}", number, len(work.graphs))
    return Made(tuple(graphs), members, reused)


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


def _lower(graph: bytes, plan: GraphPlan, targets: Sequence[str]) -> Lowered:
    variants: list[Variant] = []
    members: dict[str, bytes] = {}
    for name in targets:
        target = cast(Target, lookup.find("target", name))
        refusals = target.refusals(graph)
        if refusals:
            raise UnsupportedError(
                f"{name} cannot run component {plan.component!r}: {refusals[0]} ({len(refusals)} such nodes); "
                f"leave {name} out of the recipe's targets, or replace the operator"
            )
        stripped, weights, blobs = strip(target.lower(graph))
        member = f"graphs/{plan.component}/{plan.name}.{name}.onnx"
        variants.append(Variant(name, member, weights))
        members[member] = stripped
        members.update(blobs)
    return Lowered(tuple(variants), members)


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
