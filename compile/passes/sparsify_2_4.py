"""The pass that makes linear layers 2:4 sparse, for engines with kernels that skip the zeros.

Accuracy lost is for training to win back, with the zeros held at zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sanderling.compile.architecture import Part
from sanderling.compile.pass_runner import PassResult
from sanderling.compile.pruning.sparsity import SparseBuild, is_two_of_four, sparse_layers
from sanderling.compile.work import Work

GAINING = ("tensorrt",)
"""Engines with 2:4 kernels: TensorRT on GPUs of compute capability 8.0 and up. Others multiply by the zeros."""


@dataclass(frozen=True)
class Sparsify24:
    """Options of the pass.

    Attributes:
        components: which to make sparse; all that have a linear layer for it when empty.
        engine: what will run them; refused unless it gains from the zeros.
    """

    components: tuple[str, ...] = ()
    engine: str = "tensorrt"

    def requires(self, work: Work) -> str | None:
        """Return why sparsity gains nothing here: the engine, or components without a fitting linear layer."""
        if self.engine not in GAINING:
            return (
                f"engine {self.engine!r} gains nothing from 2:4 sparsity, it would only lose accuracy; "
                f"it pays on {', '.join(GAINING)}, elsewhere use the pass prune"
            )
        known = [part.component for part in work.adapted.parts]
        unknown = [name for name in self.components if name not in known]
        if unknown:
            return f"the model has no component {unknown[0]!r}; it has {', '.join(known)}"
        lacking = [reason for name in self.components or known if (reason := _lacking(work.part(name)))]
        wrong = lacking if self.components or len(lacking) == len(known) else []
        return "; ".join(wrong) or None

    def apply(self, work: Work) -> PassResult:
        """Return the work with sparse parts."""
        names = self.components or tuple(p.component for p in work.adapted.parts if _lacking(p) is None)
        changed = tuple(_sentence(work.part(name)) for name in names)
        parts = tuple(_sparse(part) if part.component in names else part for part in work.adapted.parts)
        source = hashlib.sha256(f"{work.adapted.source} 2:4 {' '.join(names)}".encode()).hexdigest()
        return PassResult(replace(work, adapted=replace(work.adapted, parts=parts, source=source)), changed)

    def ensures(self, work: Work) -> str | None:
        """Return the first linear layer of a sparse part that is not 2:4."""
        return next((f"layer {path!r} of component {name!r} is not 2:4" for name, path in _dense(work)), None)


def _lacking(part: Part) -> str | None:
    if part.build is None:
        return f"component {part.component!r} is a ready graph, and sparsity needs its torch module"
    if not sparse_layers(part.build(None)):
        return f"component {part.component!r} has no linear layer whose inputs divide into fours"
    return None


def _sparse(part: Part) -> Part:
    assert part.build is not None  # `requires` has refused ready graphs
    return replace(part, build=SparseBuild(part.build))


def _sentence(part: Part) -> str:
    assert part.build is not None
    module = part.build(None)
    paths = sparse_layers(module)
    zeros = sum(module.get_parameter(f"{path}.weight").numel() for path in paths) // 2
    total = sum(parameter.numel() for parameter in module.parameters())
    return f"{part.component}: {len(paths)} linear layers are 2:4 sparse, {zeros:,} of {total:,} parameters are zero"


def _dense(work: Work) -> Iterator[tuple[str, str]]:
    for part in work.adapted.parts:
        if isinstance(part.build, SparseBuild):
            module = part.build(None)
            for path in sparse_layers(module):
                if not is_two_of_four(module.get_parameter(f"{path}.weight")):
                    yield part.component, path


PASS = Sparsify24
