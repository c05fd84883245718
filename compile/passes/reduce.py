"""The pass that gives a model token levers: one more graph for every reducer at every site.

Weights are shared between graphs, so a graph costs kilobytes. Which of them earn a place in the ladder is decided by
measurement, not here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from sanderling import lookup
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.pass_runner import PassResult
from sanderling.compile.work import GraphPlan, Work
from sanderling.errors import RecipeError
from sanderling.manifest import FULL
from sanderling.spec import Site


@dataclass(frozen=True)
class Reduce:
    """Options of the pass.

    Attributes:
        reducers: file names in sdk/reducers/. The default is two baselines (random, grid) and two rules that suit every
            model; others are asked for by name.
        layers: sites to use, by layer, 0 for the input; the architecture's two preferred ones when empty.
        fractions: of the lever's maximum, the settings to measure.
    """

    reducers: tuple[str, ...] = ("random", "grid", "saliency", "merge")
    layers: tuple[int, ...] = ()
    fractions: tuple[float, ...] = (0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.12, 0.08)

    def requires(self, work: Work) -> str | None:
        """Return why no token can be left out of this model, or which option it cannot follow."""
        sites = work.adapted.spec.sites
        if not sites:
            return f"model {work.adapted.spec.name!r} has no site where tokens can be reduced"
        if not self.reducers or not self.fractions:
            return "reducers and fractions each need at least one entry"
        known = sorted({site.layer for site in sites})
        unknown = [layer for layer in self.layers if layer not in known]
        if unknown:
            return f"no site at layer {unknown[0]}; sites are at {known}"
        wrong = [fraction for fraction in self.fractions if not 0 < fraction < 1]
        if wrong:
            return f"fraction {wrong[0]} is not between 0 and 1"
        twice = [name for name, times in Counter((*self.reducers, *self.layers)).items() if times > 1]
        return f"{twice[0]!r} is listed twice" if twice else self._without_text(work)

    def apply(self, work: Work) -> PassResult:
        """Return the work with one more graph per reducer and site."""
        added = tuple(self._graph(work, site, name) for site in self._sites(work) for name in self.reducers)
        names = ", ".join(graph.name for graph in added)
        changed = f"{len(added)} graphs with a token lever: {names}"
        return PassResult(replace(work, graphs=work.graphs + added), (changed,))

    def ensures(self, work: Work) -> str | None:
        """Return what is wrong: two graphs of one name, or a full graph lost."""
        names = [(graph.component, graph.name) for graph in work.graphs]
        if len(set(names)) != len(names):
            return "two graphs of one component have the same name"
        missing = {part.component for part in work.adapted.parts} - {c for c, name in names if name == FULL}
        return f"no full graph for {sorted(missing)}" if missing else None

    def _without_text(self, work: Work) -> str | None:
        """Return which reducer needs the text at which site that does not know it, or None."""
        blind = [site for site in self._sites(work) if not work.part(site.component).relevance]
        needy = [name for name in self.reducers if lookup.find("reducer", name).needs_text]
        if not blind or not needy:
            return None
        return (
            f"reducer {needy[0]!r} chooses by relevance to the text, which component {blind[0].component!r} does not "
            f"know at layer {blind[0].layer}; leave it out, or compute the relevance in the component's module and say "
            "relevance=True in its Part"
        )

    def _sites(self, work: Work) -> tuple[Site, ...]:
        sites = work.adapted.spec.sites
        if not self.layers:
            return sites[:2]
        return tuple(site for site in sites if site.layer in self.layers)

    def _graph(self, work: Work, site: Site, reducer: str) -> GraphPlan:
        lever = work.adapted.spec.lever(site.lever)
        settings = sorted({max(lever.minimum, round(lever.maximum * f)) for f in self.fractions}, reverse=True)
        if lever.maximum in settings:
            raise RecipeError(
                f"fractions {self.fractions} of {lever.maximum} {lever.unit} leave nothing out; give smaller ones"
            )
        reduce_at = ReduceAt(lookup.find("reducer", reducer), site.layer)
        return GraphPlan(site.component, reduce_at.label, reduce_at, site, tuple(settings))


PASS = Reduce
