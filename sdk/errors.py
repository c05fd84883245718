"""Every error Sanderling raises on purpose.

SanderlingError
├── UserError                 something given to us has to change        (exit code 2)
│   ├── InputError            an input of a call: name, shape, dtype, content
│   ├── BudgetError           a budget that makes no sense
│   │   ├── BudgetTooSmallError   a budget no rung of the ladder can meet
│   │   └── DeviceFullError       a session that the device it shares has no room for
│   ├── BundleError           a bundle that is damaged, unsafe or too new
│   ├── CameraError           a camera that cannot be opened or read, or a frame that does not fit
│   │   └── CameraStalledError    no frame came for too long
│   ├── CheckpointError       weights or configuration that cannot be read or disagree
│   ├── RecipeError           a recipe, goal or option that cannot be followed
│   ├── UnknownNameError      a name that nothing here answers to
│   ├── UnsupportedError      a graph that a target cannot run
│   ├── MissingExtraError     a library that is not installed
│   └── ReceiptsLostError     receipts that could not be written
├── CheckFailedError          a check ran and its answer is no           (exit code 1)
│   ├── DriftError            outputs moved further than their bound
│   ├── GoalsMissedError      a bundle misses a goal of its recipe
│   └── DeadlineMissedError   a call took longer than its budget, which asked to be told so
└── InternalError             our own mistake; please report it          (exit code 3)

try:
    answer = session.run({"image": frame}, budget=Budget(latency_ms=20))
except sanderling.BudgetTooSmallError as error:
    slow_down(error.cheapest_ms)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sanderling.session import Answer


class SanderlingError(Exception):
    """The root: catch it to catch everything raised on purpose."""

    exit_code = 3


class UserError(SanderlingError):
    """Something the caller gave has to change; the message says what came, what was expected and a way out."""

    exit_code = 2


class InputError(UserError):
    """An input of a call has the wrong name, shape, dtype or content."""


class BudgetError(UserError):
    """A budget makes no sense: zero, negative, not a number, or about something nobody measured."""


class BudgetTooSmallError(BudgetError):
    """No rung of the ladder fits the budget.

    Attributes:
        cheapest_ms: predicted milliseconds of the cheapest rung, at the percentile asked for.
    """

    def __init__(self, message: str, cheapest_ms: float) -> None:
        super().__init__(message)
        self.cheapest_ms = cheapest_ms


class DeviceFullError(BudgetError):
    """A session asks for more memory or time than the device it shares has left."""


class BundleError(UserError):
    """A bundle is damaged, unsafe, or of a format this version does not read."""


class CameraError(UserError):
    """A camera cannot be opened or read, sends a frame that does not fit the ones before, or is read by two loops."""


class CameraStalledError(CameraError):
    """No frame came for as long as the caller allowed; the camera may still go on."""


class CheckpointError(UserError):
    """Weights or configuration cannot be read, or do not agree with each other."""


class RecipeError(UserError):
    """A recipe, goal or option cannot be followed."""


class UnknownNameError(UserError):
    """A name that nothing here answers to; the message lists the names that exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        super().__init__(f"unknown {kind} {name!r}{hint} Known: {', '.join(names) or 'none'}.")
        self.name = name
        self.known = tuple(names)


class UnsupportedError(UserError):
    """A target cannot run a graph; the message names the operator and the component."""


class MissingExtraError(UserError):
    """A library is not installed; the message has the pip command that installs it."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}: pip install 'sanderling[{extra}]'")
        self.library = library
        self.extra = extra


class ReceiptsLostError(UserError):
    """Receipts could not be written, because the disk is full, say; the message says how many are lost."""


class CheckFailedError(SanderlingError):
    """A check ran and its answer is no."""

    exit_code = 1


class DriftError(CheckFailedError):
    """Outputs moved further from the source model than their bound; the message names the first that did."""


class GoalsMissedError(CheckFailedError):
    """A bundle misses a goal of its recipe; the message says how close it came and what blocks it."""


class DeadlineMissedError(CheckFailedError):
    """A call took longer than its budget allowed, and the budget says `on_miss="error"`.

    Attributes:
        answer: the late `Answer`, outputs and receipt.
    """

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


class InternalError(SanderlingError):
    """Something that should be impossible happened; please report it."""
