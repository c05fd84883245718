"""Recipes: which passes with which options, for which targets. YAML or Python; unknown keys are errors.

passes:
  - reduce: {reducers: [saliency, random], layers: [0, 2], fractions: [0.5, 0.25]}
targets: [onnxruntime, openvino]
threads: 2
budget: {latency_ms: 33, percentile: 99}
goals: {quality_drop_max: 0.01, latency_ms: 33, size_mb: 20}
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from sanderling import lookup
from sanderling.budget import Budget
from sanderling.codec import plain
from sanderling.compile.goals import Goals
from sanderling.compile.pass_runner import Pass
from sanderling.engine import usable_cores
from sanderling.errors import MissingExtraError, RecipeError

_PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a name"),
}
"""Kind of option -> the types that YAML may give it, and what to call it."""


@dataclass(frozen=True)
class Recipe:
    """How to compile.

    Attributes:
        passes: (name, pass) in order; None for the default: `reduce` where the model has a site for it.
        targets: engines to try; the device's own list when empty.
        threads: worker threads per engine; the cores this process may use when None.
        budget: written into the bundle, for calls that bring none.
        seed: of inputs made up where no data is given.
        goals: what the bundle has to reach.
    """

    passes: tuple[tuple[str, Pass], ...] | None = None
    targets: tuple[str, ...] = ()
    threads: int | None = None
    budget: Budget | None = None
    seed: int = 0
    goals: Goals = field(default_factory=Goals)

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise RecipeError(f"threads is {self.threads}, expected at least 1; leave it out for one per core")
        if self.seed < 0:
            raise RecipeError(f"seed is {self.seed}, expected 0 or more")
        twice = [target for target, times in Counter(self.targets).items() if times > 1]
        if twice:
            raise RecipeError(f"target {twice[0]!r} is listed twice")

    def effective(self, passes: tuple[tuple[str, Pass], ...], targets: tuple[str, ...]) -> str:
        """Return the recipe with every default filled in, as canonical JSON."""
        filled = {
            "passes": [{name: plain(step)} for name, step in passes],
            "targets": list(targets),
            "threads": self.threads or usable_cores(),
            "budget": plain(self.budget),
            "seed": self.seed,
            "goals": plain(self.goals),
        }
        return json.dumps(filled, sort_keys=True)


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a YAML file.

    Raises:
        RecipeError: no such file, not YAML, or a key or value that cannot be followed.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyyaml", "compile", "reading a recipe") from error
    try:
        parsed = yaml.safe_load(path.read_text())
    except OSError as error:
        raise RecipeError(f"recipe {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} is not YAML: {error}") from error
    return from_mapping(parsed or {})


def from_mapping(given: Mapping[str, Any]) -> Recipe:
    """Return the recipe that plain dicts and lists describe, as YAML gives them.

    Raises:
        RecipeError: an unknown key (the message names the nearest known one) or a value of the wrong type.
    """
    if not isinstance(given, Mapping):
        raise RecipeError(f"a recipe is a mapping, got {type(given).__name__}")
    fields = _checked(Recipe, given, "recipe", {"passes": _read_passes, "budget": _read_budget, "goals": _read_goals})
    for target in fields.get("targets", ()):
        lookup.find("target", target)
    return Recipe(**fields)


def _read_passes(given: Any, where: str) -> tuple[tuple[str, Pass], ...] | None:
    if given is not None and not isinstance(given, list):
        raise RecipeError(f"{where} is {given!r}, expected a list")
    return None if given is None else tuple(_read_pass(entry) for entry in given)


def _read_budget(given: Any, where: str) -> Budget | None:
    return None if given is None else Budget(**_checked(Budget, given, where))


def _read_goals(given: Any, where: str) -> Goals:
    return Goals(**_checked(Goals, given, where))


def _read_pass(entry: Any) -> tuple[str, Pass]:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise RecipeError(f"a pass is a name, or one name with its options, got {entry!r}")
    name, options = next(iter(entry.items()))
    kind = lookup.find("pass", str(name))
    return str(name), kind(**_checked(kind, {} if options is None else options, f"pass {name!r}"))


def _checked(
    kind: type, given: Any, where: str, readers: Mapping[str, Callable[[Any, str], Any]] = MappingProxyType({})
) -> dict[str, Any]:
    """Return the fields with lists as tuples, after checking names and types; `readers` read fields of other forms."""
    if not isinstance(given, Mapping):
        raise RecipeError(f"{where} is {given!r}, expected options by name")
    hints = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    checked = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise RecipeError(f"{where} has no option {name!r}{hint} Known: {', '.join(known)}.")
        path = f"{where}: {name}"
        checked[name] = readers[name](value, path) if name in readers else _convert(value, hints[name], path)
    return checked


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Return a value as the hint wants it: a list as a tuple, a whole number where a number is expected as it is."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise RecipeError(f"{where} is {value!r}, expected a list")
        return tuple(_convert(item, get_args(kind)[0], f"{where}[{place}]") for place, item in enumerate(value))
    allowed, words = _PLAIN.get(kind, ((type(value),), ""))
    if type(value) not in allowed:
        raise RecipeError(f"{where} is {value!r}, expected {words}")
    return value
