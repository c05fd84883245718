"""One section of a Hugging Face config.json, with the family's published defaults filled in and every value checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sanderling.errors import CheckpointError


@dataclass(frozen=True)
class Settings:
    """Values of a section; `where` names it in messages, such as "vision_config"."""

    where: str
    values: Mapping[str, Any]

    def whole(self, key: str) -> int:
        """Return a positive whole number."""
        value = self.values[key]
        if type(value) is not int or value < 1:
            raise self.wrong(key, "a whole number from 1")
        return value

    def wholes(self, key: str, length: int) -> tuple[int, ...]:
        """Return a list of that many positive whole numbers."""
        value = self.values[key]
        right = isinstance(value, list) and len(value) == length
        if not right or any(type(number) is not int or number < 1 for number in value):
            raise self.wrong(key, f"a list of {length} whole numbers from 1")
        return tuple(value)

    def positives(self, key: str, length: int) -> tuple[float, ...]:
        """Return a list of that many positive numbers."""
        value = self.values[key]
        right = isinstance(value, list) and len(value) == length
        if not right or any(type(n) not in (int, float) or not 0 < n < float("inf") for n in value):
            raise self.wrong(key, f"a list of {length} positive numbers")
        return tuple(float(number) for number in value)

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self.values[key]
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def token(self, key: str) -> int:
        """Return a token id."""
        value = self.values[key]
        if type(value) is not int or value < 0:
            raise self.wrong(key, "one token id, a whole number from 0")
        return value

    def positive(self, key: str) -> float:
        """Return a positive number."""
        value = self.values[key]
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise self.wrong(key, "a positive number")
        return float(value)

    def choice(self, key: str, known: Collection[str]) -> str:
        """Return a name that is one of `known`."""
        value = self.values[key]
        if not isinstance(value, str) or value not in known:
            raise self.wrong(key, f"one of {', '.join(sorted(known))}")
        return value

    def equal(self, key: str, only: int) -> int:
        """Return a number that has to be `only`."""
        if self.values[key] != only:
            raise self.wrong(key, str(only))
        return only

    def heads(self) -> int:
        """Return the number of attention heads, which divides the width."""
        heads, width = self.whole("num_attention_heads"), self.whole("hidden_size")
        if width % heads:
            raise self.wrong("num_attention_heads", f"a divisor of hidden_size, {width}")
        return heads

    def wrong(self, key: str, expected: str) -> CheckpointError:
        """Return the error for a value that is not what is expected; for checks between several values."""
        return CheckpointError(f"config.json: {self.where}.{key} is {self.values[key]!r}, expected {expected}")


def section(config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> Settings:
    """Return a section of config.json over the defaults that Hugging Face leaves out.

    Checkpoints of 2022 have a second section `<name>_dict`, which wins together with its own defaults.

    Args:
        config: the parsed file.
        name: such as "vision_config".
        defaults: the family's published values.

    Raises:
        CheckpointError: a section that is not an object.
    """
    values = dict(defaults)
    for key, base in ((name, {}), (f"{name}_dict", defaults)):
        given = config.get(key)
        if given is None:
            continue
        if not isinstance(given, dict):
            raise CheckpointError(f"config.json: {key} is {given!r}, expected an object")
        values = {**values, **base, **given}
    return Settings(name, values)
