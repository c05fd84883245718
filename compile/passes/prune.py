"""The pass that makes a model's tensors smaller: it takes out heads, feed-forward channels and whole layers.

Accuracy lost is for training to win back: every part still builds an ordinary torch module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sanderling.compile.architecture import Part
from sanderling.compile.flops import multiply_adds, parameters
from sanderling.compile.pass_runner import PassResult
from sanderling.compile.pruning.decide import SPREAD, decide
from sanderling.compile.pruning.groups import KINDS, Cuts, Group, Kind, find_groups, outside
from sanderling.compile.pruning.importance import HOW, Evidence, score
from sanderling.compile.pruning.part import PrunedBuild, prune_part
from sanderling.compile.pruning.sparsity import SparseBuild
from sanderling.compile.work import Work
from sanderling.errors import RecipeError


@dataclass(frozen=True)
class Prune:
    """Options of the pass.

    Attributes:
        components: which to prune; all that have what is asked for when empty.
        heads: share of the attention heads to remove, from 0 to below 1.
        channels: share of the feed-forward channels to remove.
        layers: share of the layers to remove, the least important first.
        drop: layers to remove by number, counted from 1 as sites are; instead of `layers`.
        importance: "magnitude" by weights alone; "taylor", "fisher" or "ablation" on `Work.samples`.
        spread: "even" removes the share everywhere, "global" the least important units of a component together.
        multiple: channels that stay are a multiple of this.
    """

    components: tuple[str, ...] = ()
    heads: float = 0.0
    channels: float = 0.25
    layers: float = 0.0
    drop: tuple[int, ...] = ()
    importance: str = "magnitude"
    spread: str = "even"
    multiple: int = 8

    @property
    def needs_samples(self) -> bool:
        """Whether importance is judged on `Work.samples`."""
        return self.importance != "magnitude"

    def requires(self, work: Work) -> str | None:
        """Return why nothing can be pruned: an option that makes no sense, or a component that lacks what it needs."""
        return self._wrong_option() or self._wrong_component(work) or self._wrong_samples(work)

    def apply(self, work: Work) -> PassResult:
        """Return the work with smaller parts.

        Raises:
            RecipeError: a share rounds to nothing in a component.
        """
        changed = []
        adapted = work.adapted
        for component in self._chosen(work):
            part = work.part(component)
            cuts = self._decide(work, component)
            adapted = prune_part(adapted, component, cuts)
            changed.append(_sentence(part, cuts))
        return PassResult(replace(work, adapted=adapted), tuple(changed))

    def ensures(self, work: Work) -> str | None:
        """Return what is wrong: outputs of another form than before, or a part that is as large as it was."""
        for part in work.adapted.parts:
            if isinstance(part.build, PrunedBuild):
                whole, small = part.build.original(None), part.build(None)
                if _forms(whole, part.example) != _forms(small, part.example):
                    return f"component {part.component!r} answers in another form than before"
                if parameters(small) >= parameters(whole):
                    return f"nothing was removed from component {part.component!r}"
        return None

    def _shares(self) -> dict[Kind, float]:
        """Return the share of each kind that is asked for; a kind with 0 is not."""
        shares: dict[Kind, float] = {"heads": self.heads, "channels": self.channels, "layers": self.layers}
        return {kind: share for kind, share in shares.items() if share != 0}

    def _asked(self) -> tuple[Kind, ...]:
        return tuple(kind for kind in KINDS if kind in self._shares() or (kind == "layers" and self.drop))

    def _wrong_option(self) -> str | None:
        wrong_share = [f"{kind} is {share}" for kind, share in self._shares().items() if not 0 <= share < 1]
        wrong_drop = self.drop and (min(self.drop) < 1 or len(set(self.drop)) < len(self.drop))
        checks = (
            (wrong_share, f"{', '.join(wrong_share)}, expected a share to remove, from 0 to below 1"),
            (not self._asked(), "it is asked to remove nothing; give heads, channels, layers or drop"),
            (self.layers and self.drop, "layers and drop both say which layers go; give one of them"),
            (wrong_drop, f"drop is {list(self.drop)}, expected different layers counted from 1"),
            (self.importance not in HOW, f"importance is {self.importance!r}, expected one of {', '.join(HOW)}"),
            (self.spread not in SPREAD, f"spread is {self.spread!r}, expected one of {', '.join(SPREAD)}"),
            (self.multiple < 1, f"multiple is {self.multiple}, expected at least 1"),
        )
        return next((reason for wrong, reason in checks if wrong), None)

    def _wrong_component(self, work: Work) -> str | None:
        known = [part.component for part in work.adapted.parts]
        for name in self.components:
            if name not in known:
                return f"the model has no component {name!r}; it has {', '.join(known)}"
            lacking = _lacking(work.part(name), self._asked())
            if lacking:
                return lacking
        chosen = self._chosen(work)
        if not chosen:
            reasons = "; ".join(filter(None, (_lacking(work.part(name), self._asked()) for name in known)))
            return f"no component has all that is to be removed: {reasons}"
        return next(filter(None, (self._wrong_layers(work, name) for name in chosen)), None)

    def _wrong_layers(self, work: Work, component: str) -> str | None:
        """Return why layers cannot go from a component."""
        if "layers" not in self._asked():
            return None
        planned = [plan.name for plan in work.graphs if plan.component == component and plan.site is not None]
        if planned:
            return f"graph {planned[0]!r} of {component!r} counts layers already; put prune before reduce"
        for stack in (group for group in _groups(work.part(component)) if group.kind == "layers"):
            if self.drop and max(self.drop) > stack.units:
                return f"{component!r} has layers 1 to {stack.units} in {stack.path!r}, drop names {max(self.drop)}"
            if len(self.drop) >= stack.units:
                return f"drop would remove all {stack.units} layers of {stack.path!r} in {component!r}"
        return None

    def _wrong_samples(self, work: Work) -> str | None:
        if not self.needs_samples:
            return None
        missing = [name for name in self._chosen(work) if not work.samples.get(name)]
        if missing:
            return (
                f"importance {self.importance!r} needs samples of component {missing[0]!r} and there are none; "
                "give calibration data, or choose importance magnitude"
            )
        for name in self._chosen(work):
            example = work.part(name).example
            for number, batch in enumerate(work.samples[name]):
                if [(t.dtype, t.ndim) for t in batch] != [(t.dtype, t.ndim) for t in example]:
                    came, expected = (", ".join(map(_words, tensors)) for tensors in (batch, example))
                    return (
                        f"sample {number} of component {name!r} is {came or 'empty'}, expected the form of {expected}"
                    )
        return None

    def _chosen(self, work: Work) -> tuple[str, ...]:
        if self.components:
            return self.components
        return tuple(p.component for p in work.adapted.parts if _lacking(p, self._asked()) is None)

    def _decide(self, work: Work, component: str) -> dict[Group, tuple[int, ...]]:
        module = _module(work.part(component))
        groups = find_groups(module)
        dropped = tuple(number - 1 for number in self.drop)
        cuts: dict[Group, tuple[int, ...]] = {g: dropped for g in groups if g.kind == "layers" and dropped}
        wanted = [group for group in outside(groups, cuts) if group.kind in self._shares()]
        evidence = None if self.importance == "magnitude" else Evidence(work.samples[component])
        cuts |= decide(score(module, wanted, self.importance, evidence), self._shares(), self.multiple, self.spread)
        for kind in self._asked():
            if not any(group.kind == kind for group in cuts):
                units = max(group.units for group in groups if group.kind == kind)
                raise RecipeError(
                    f"{kind} {self._shares()[kind]} removes none of the {units} {kind} that a place in component "
                    f"{component!r} has at most; give a larger share or a smaller multiple, or leave the component out"
                )
        return cuts


def _module(part: Part) -> nn.Module:
    assert part.build is not None  # `requires` has refused ready graphs
    return part.build(None)


def _groups(part: Part) -> tuple[Group, ...]:
    return () if part.build is None else find_groups(part.build(None))


def _lacking(part: Part, kinds: tuple[Kind, ...]) -> str | None:
    """Return why a part cannot lose units of all these kinds."""
    if part.build is None:
        return f"component {part.component!r} is a ready graph, and pruning needs its torch module"
    if isinstance(part.build, SparseBuild):
        return f"component {part.component!r} is 2:4 sparse, which pruning would undo; put prune before sparsify_2_4"
    here = {group.kind for group in _groups(part)}
    missing = [kind for kind in kinds if kind not in here]
    return f"component {part.component!r} has no {missing[0]} that can be removed" if missing else None


def _sentence(part: Part, cuts: Cuts) -> str:
    """Return what a component lost, and what it cost before and costs now."""
    whole = _module(part)
    small = PrunedBuild(lambda _: whole, cuts)(None)
    gone = ", ".join(_counts(find_groups(whole), cuts))
    sizes = [parameters(module) for module in (whole, small)]
    costs = [multiply_adds(module, part.example) // part.example[0].shape[0] for module in (whole, small)]
    return (
        f"{part.component} lost {gone}: parameters {sizes[0]:,} -> {sizes[1]:,} ({sizes[1] / sizes[0] - 1:+.0%}), "
        f"multiply-adds per sample {costs[0]:,} -> {costs[1]:,} ({costs[1] / costs[0] - 1:+.0%})"
    )


def _counts(groups: tuple[Group, ...], cuts: Cuts) -> Iterator[str]:
    for kind in KINDS:
        total = sum(group.units for group in groups if group.kind == kind)
        gone = sum(len(units) for group, units in cuts.items() if group.kind == kind)
        if gone:
            yield f"{gone} of {total} {kind}"


def _forms(module: nn.Module, example: tuple[Tensor, ...]) -> list[tuple[torch.dtype, torch.Size]]:
    with torch.inference_mode():
        returned = module(*example)
    return [(o.dtype, o.shape) for o in (returned if isinstance(returned, tuple) else (returned,))]


def _words(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


PASS = Prune
