"""The contract of a pass, and the runner that holds passes to it.

A pass is a frozen dataclass of options in `compile/passes/<name>.py`, exported as `PASS` (the class)::

    @dataclass(frozen=True)
    class Reduce:
        reducers: tuple[str, ...] = (...)
        def requires(self, work: Work) -> str | None: ...     why it cannot run here, or None
        def apply(self, work: Work) -> PassResult: ...        the changed work, and what changed
        def ensures(self, work: Work) -> str | None: ...      what is wrong with the result, or None

    PASS = Reduce
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sanderling.compile.work import Work
from sanderling.errors import InternalError, RecipeError


@dataclass(frozen=True)
class PassResult:
    """The work after a pass, and what the pass changed, one sentence each."""

    work: Work
    changed: tuple[str, ...]


class Pass(Protocol):
    """A step of the compiler, model in and model out."""

    def requires(self, work: Work) -> str | None:
        """Return why this pass cannot run on the work, or None when it can."""
        ...

    def apply(self, work: Work) -> PassResult:
        """Return the changed work; the work given is left as it is."""
        ...

    def ensures(self, work: Work) -> str | None:
        """Return what is wrong with the result, or None when it is right."""
        ...


def run_passes(work: Work, passes: Sequence[tuple[str, Pass]]) -> tuple[Work, tuple[str, ...]]:
    """Return the work after all passes and what they changed.

    Args:
        work: the model.
        passes: name and pass, in order.

    Raises:
        RecipeError: a pass cannot run; the message has its reason and the passes that had run before.
        InternalError: a pass broke its promise.
    """
    changes: list[str] = []
    done: list[str] = []
    for name, step in passes:
        refusal = step.requires(work)
        if refusal is not None:
            raise RecipeError(f"pass {name!r} cannot run: {refusal} (passes done before: {', '.join(done) or 'none'})")
        result = step.apply(work)
        broken = step.ensures(result.work)
        if broken is not None:
            raise InternalError(f"pass {name!r} left the model in a state it must not: {broken}")
        if result.changed == () and not _same(result.work, work):
            raise InternalError(f"pass {name!r} changed the model without saying what")
        work = result.work
        done.append(name)
        changes += [f"{name}: {sentence}" for sentence in result.changed]
    return work, tuple(changes)


def _same(one: Work, other: Work) -> bool:
    # By identity: an adapted model holds tensors, which do not compare as a whole.
    return one.adapted is other.adapted and one.graphs == other.graphs
