"""Frozen dataclasses to JSON and back, strictly: an unknown, missing or mistyped field is an error with its path."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import types
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from sanderling.errors import BundleError

T = TypeVar("T")


def to_json(value: object) -> bytes:
    """Return a dataclass as canonical JSON: sorted keys, one-space indent, a newline at the end."""
    return (json.dumps(plain(value), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def plain(value: Any) -> Any:
    """Return dataclasses as dicts and tuples as lists, all the way down."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def from_json(cls: type[T], data: bytes, where: str) -> T:
    """Return the dataclass that `to_json` wrote.

    Args:
        cls: the dataclass to read.
        data: JSON text.
        where: what is being read, for error messages, such as "manifest.json".

    Raises:
        BundleError: not JSON, or not of the form of `cls`; the message has the path of the first wrong field.
    """
    return cast(T, _read(cls, parse_json(data, where), where))


def parse_json(data: bytes, where: str) -> Any:
    """Return what JSON text says, in Python's own types.

    Raises:
        BundleError: not JSON, or an object has a key twice.
    """
    try:
        return json.loads(data, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not JSON: {error}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r:.60} comes twice in one object")
        found[key] = value
    return found


@functools.cache  # a manifest lists thousands of weights, and resolving the hints takes most of the time
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        return _read_union(get_args(kind), value, where)
    if origin is tuple:
        return _read_tuple(get_args(kind), value, where)
    if origin is dict:
        item = get_args(kind)[1]
        return {key: _read(item, part, f"{where}.{key}") for key, part in _checked(value, dict, where).items()}
    return _read_scalar(kind, value, where)


def _read_scalar(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise BundleError(f"{where} is {value!r:.60}, expected one of {list(get_args(kind))}")
        return value
    if kind is float and type(value) in (int, float):
        if not abs(value) <= sys.float_info.max:
            raise BundleError(f"{where} is {value!s:.60}, expected a finite number")
        return float(value)
    return _checked(value, kind, where)


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    hints = _hints(kind)
    given = _checked(value, dict, where)
    unknown = sorted(set(given) - set(hints))
    missing = sorted(set(hints) - set(given))
    if unknown or missing:
        raise BundleError(f"{where}: unknown fields {unknown}, missing fields {missing} for {kind.__name__}")
    return kind(**{name: _read(hint, given[name], f"{where}.{name}") for name, hint in hints.items()})


def _read_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    some = [option for option in options if option is not type(None)]
    if len(some) == 1:
        return _read(some[0], value, where)
    tagged = {_tag_of(option): option for option in some if dataclasses.is_dataclass(option)}
    tag = value.get("kind") if isinstance(value, dict) else None
    if isinstance(tag, str) and tag in tagged:
        return _read_dataclass(tagged[tag], value, where)
    if type(value) in some:
        return value
    raise BundleError(f"{where} is {value!r:.60}, which fits none of {[getattr(o, '__name__', o) for o in options]}")


def _tag_of(kind: Any) -> str:
    """Return the one value that a dataclass's field `kind` may have."""
    return str(get_args(_hints(kind)["kind"])[0])


def _read_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = _checked(value, list, where)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_read(kinds[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if len(items) != len(kinds):
        raise BundleError(f"{where} has {len(items)} items, expected {len(kinds)}")
    return tuple(_read(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, items, strict=True)))


def _checked(value: Any, kind: type, where: str) -> Any:
    if type(value) is not kind:
        raise BundleError(f"{where} is {type(value).__name__} {value!r:.60}, expected {kind.__name__}")
    return value
