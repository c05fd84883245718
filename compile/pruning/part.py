"""A part of a model that is built pruned: the decision is made once, the surgery repeated for every graph."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from sanderling.compile.architecture import Adapted, Build, Part
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.pruning.groups import Cuts, Group, find_groups
from sanderling.compile.pruning.surgery import prune_module
from sanderling.errors import RecipeError
from sanderling.spec import ModelSpec, Site


@dataclass(frozen=True)
class PrunedBuild:
    """Builds a part without the units that were cut; equal cuts at every site.

    Attributes:
        original: builds the part whole.
        cuts: what to remove.
    """

    original: Build
    cuts: Cuts

    def __call__(self, reduce_at: ReduceAt | None) -> nn.Module:
        """Return the pruned module in the mode of the whole one; `reduce_at` counts the layers that are left."""
        return prune_module(self.original(reduce_at), self.cuts)


def prune_part(adapted: Adapted, component: str, cuts: Cuts) -> Adapted:
    """Return the model with one component pruned; its sites are renumbered where layers went.

    Args:
        adapted: the split model.
        component: whose module loses units.
        cuts: groups of its module -> units to remove.

    Raises:
        RecipeError: the component is a ready graph, or it has sites and several stacks that lose layers.
    """
    part = next(part for part in adapted.parts if part.component == component)
    if part.build is None:
        raise RecipeError(f"component {component!r} is a ready graph; pruning needs its torch module")
    groups = find_groups(part.build(None))
    smaller = replace(part, build=PrunedBuild(part.build, cuts), probe=_probe(adapted.spec, part, groups, cuts))
    parts = tuple(smaller if other is part else other for other in adapted.parts)
    words = repr([adapted.source, component, sorted((g.kind, g.path, sorted(units)) for g, units in cuts.items())])
    source = hashlib.sha256(words.encode()).hexdigest()
    return replace(adapted, spec=_renumbered(adapted.spec, component, cuts), parts=parts, source=source)


def _probe(spec: ModelSpec, part: Part, groups: Iterable[Group], cuts: Cuts) -> tuple[int, ...]:
    """Return the probe with a setting more for every number of heads there is now.

    An engine's fault that shows at as many tokens as heads shows elsewhere once heads are gone.
    """
    least = max((spec.lever(site.lever).minimum for site in spec.sites if site.component == part.component), default=1)
    fewer = {len(set(cuts.get(group, ()))) for group in groups if group.kind == "heads"}
    moved = {setting - gone for setting in part.probe for gone in fewer}
    return tuple(sorted({setting for setting in moved if setting >= least} | set(part.probe)))


def _renumbered(spec: ModelSpec, component: str, cuts: Cuts) -> ModelSpec:
    """Return the description with this component's sites counting the layers that are left; of equal ones the first."""
    gone = [set(units) for group, units in cuts.items() if group.kind == "layers" and units]
    if not gone or not any(site.component == component and site.layer > 0 for site in spec.sites):
        return spec
    if len(gone) > 1:
        raise RecipeError(
            f"component {component!r} would lose layers in {len(gone)} stacks, and its sites count the layers of one; "
            "remove layers of one stack only"
        )
    # Behind no layer at all there is no attention to choose by, so such a site goes.
    left = [(site, _layers_left(site, component, gone[0])) for site in spec.sites]
    sites = [replace(site, layer=layer) for site, layer in left if layer > 0 or site.layer == 0]
    return replace(spec, sites=tuple(dict.fromkeys(sites)))


def _layers_left(site: Site, component: str, gone: set[int]) -> int:
    """Return how many of the layers in front of a site are left."""
    return site.layer - sum(number < site.layer for number in gone) if site.component == component else site.layer
