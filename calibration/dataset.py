"""Data for calibration and evaluation: seeded by whoever makes it, hashed here."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sanderling.engine import AnyArray
from sanderling.errors import InputError, RecipeError

Sample: TypeAlias = dict[str, Any]
"""One call's inputs, as `Session.run` takes them, for a batch of one."""

Score: TypeAlias = Callable[[dict[str, AnyArray], Any], float]
"""Outputs of one call and what was expected -> 0 (wrong) to 1 (right)."""

AGREEMENT = "agreement with the full model"
"""What quality means where there is no task metric."""


@dataclass(frozen=True)
class Data:
    """What a compile measures on.

    Attributes:
        samples: inputs, one call each; used for calibration, latency and quality.
        expected: one per sample, what `score` compares with; empty when there is no task metric.
        score: the task metric; None measures agreement with the full model.
        metric: what the score is called, such as "accuracy"; it stands beside every quality.
    """

    samples: Sequence[Sample]
    expected: Sequence[Any] = field(default=())
    score: Score | None = None
    metric: str = AGREEMENT

    def __post_init__(self) -> None:
        if not self.samples:
            raise InputError("the data set has no samples; give at least one")
        if self.score is not None and len(self.expected) != len(self.samples):
            raise InputError(f"{len(self.samples)} samples but {len(self.expected)} expected answers; give one each")
        if self.score is not None and self.metric == AGREEMENT:
            raise InputError("a score needs the name of what it measures, such as metric='accuracy'")

    def digest(self) -> str:
        """Return the sha256 of the metric's name, every sample and every expected answer, as hex.

        Raises:
            InputError: a sample or answer holds something that has no bytes of its own.
        """
        total = hashlib.sha256(self.metric.encode())
        _hash_into(total, list(self.samples))
        _hash_into(total, list(self.expected))
        return total.hexdigest()


def from_reference(reference: str) -> Data:
    """Return the data that `MODULE:FUNCTION` makes; the function takes no arguments and returns `Data`.

    Raises:
        RecipeError: not of that form, no such module or function, or it returned something else.
    """
    module_name, _, function_name = reference.partition(":")
    if not module_name or module_name.startswith(".") or not function_name:
        raise RecipeError(f"data is {reference!r}, expected MODULE:FUNCTION such as mypackage.data:evaluation")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there and one of its own imports is not
        raise RecipeError(
            f"data module {module_name!r} is not found from {Path.cwd()}; name it as Python imports it"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise RecipeError(f"data module {module_name!r} has no function {function_name!r}")
    data = function()
    if not isinstance(data, Data):
        raise RecipeError(f"{reference} returned {type(data).__name__}, expected sanderling.calibration.dataset.Data")
    return data


def _hash_into(total: Any, value: Any) -> None:
    if isinstance(value, Path):
        total.update(value.read_bytes())
    elif value is None or isinstance(value, (str, bytes, int, float)):
        total.update(repr(value).encode())
    elif isinstance(value, (list, tuple)):
        total.update(f"list of {len(value)}".encode())
        for item in value:
            _hash_into(total, item)
    elif isinstance(value, dict):
        _hash_into(total, [item for key in sorted(value, key=repr) for item in (key, value[key])])
    else:
        _hash_array(total, value)


def _hash_array(total: Any, value: Any) -> None:
    array = np.asarray(value)
    if array.dtype.hasobject:
        kind = type(value).__name__
        raise InputError(f"{kind} cannot be hashed; give numbers, texts, arrays, or lists or dicts of these")
    total.update(f"{array.dtype}{array.shape}".encode())
    total.update(array.tobytes())
