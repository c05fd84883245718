"""What every loss asks of its arguments."""

from __future__ import annotations

from torch import Tensor

from sanderling.errors import InputError, RecipeError


def require_same_shape(what: str, student: Tensor, teacher: Tensor, at_least_rows: int = 1) -> None:
    """Return nothing when both have one shape and enough rows.

    Raises:
        InputError: they differ or are too few; the message has both shapes.
    """
    if student.shape != teacher.shape:
        raise InputError(
            f"{what} of the student are {list(student.shape)} and of the teacher {list(teacher.shape)}; "
            "give both the same inputs, and compare only tokens that both kept"
        )
    if student.shape[0] < at_least_rows:
        raise InputError(f"{what} have {student.shape[0]} rows, expected {at_least_rows} or more; give larger batches")


def require_positive(what: str, value: float) -> None:
    """Return nothing when the value is above 0.

    Raises:
        RecipeError: it is not.
    """
    if not value > 0:
        raise RecipeError(f"{what} is {value}, expected more than 0")


def require_between(what: str, value: float, low: float, high: float) -> None:
    """Return nothing when low <= value <= high.

    Raises:
        RecipeError: it is not.
    """
    if not low <= value <= high:
        raise RecipeError(f"{what} is {value}, expected {low} to {high}")
