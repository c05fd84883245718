"""Digests of torch modules: equal digests mean that exporting them gives equal graphs."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

STEADY = (frozenset(sys.stdlib_module_names) - {"__main__"}) | {"numpy", "sanderling", "torch"}
"""Packages whose files are not read: the cache's keys have their versions, or the digest of Sanderling's own source."""

_MACHINERY = frozenset(vars(nn.Module()))


def module_digest(module: nn.Module) -> str:
    """Return the digest of all that decides what a module computes, as hex.

    That is its weights and buffers, the plain attributes of every module in it, such as a number of heads, and the
    source of their classes together with the user's own code that those import, however far. Of installed libraries the
    files that are named directly count.
    """
    return hashlib.sha256(repr((_described(module, frozenset()), sorted(_sources(module)))).encode()).hexdigest()


def _module_words(module: nn.Module, above: frozenset[int]) -> str:
    parts = module.named_modules(remove_duplicate=False)
    words = [(name, type(part).__qualname__, _described(_state(part), above | {id(part)})) for name, part in parts]
    return hashlib.sha256(repr(words).encode()).hexdigest()


def _state(module: nn.Module) -> list[Any]:
    """Return what a module holds besides the modules in it."""
    own = {name: value for name, value in vars(module).items() if name not in _MACHINERY}
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [own, tensors, *module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def _described(value: Any, above: frozenset[int]) -> str:
    """Return text that is equal for equal values, without addresses; `above` are the objects that contain this one."""
    if id(value) in above:
        return "itself"
    above |= {id(value)}
    if isinstance(value, (Tensor, np.ndarray)):
        return _array_words(value)
    if isinstance(value, dict):
        return f"{{{','.join(f'{key!r}:{_described(item, above)}' for key, item in value.items())}}}"
    if isinstance(value, (set, frozenset)):
        return f"set{sorted(_described(item, above) for item in value)}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_described(item, above) for item in value)}]"
    return _object_words(value, above)


def _object_words(value: Any, above: frozenset[int]) -> str:
    if isinstance(value, nn.Module):
        return _module_words(value, above)
    if isinstance(value, MethodType):
        return f"{value.__qualname__} of {_described(value.__self__, above)}"
    if isinstance(value, functools.partial):
        return f"partial{_described([value.func, value.args, value.keywords], above)}"
    if isinstance(value, FunctionType):
        bound = [value.__defaults__, value.__kwdefaults__, [cell.cell_contents for cell in value.__closure__ or ()]]
        return f"{value.__qualname__}{_described(bound, above)}"
    if hasattr(value, "__qualname__"):  # a class or a built-in function, whose repr may have an address
        return f"{value.__module__}.{value.__qualname__}"
    return f"{type(value).__qualname__}{_described(vars(value), above)}" if hasattr(value, "__dict__") else repr(value)


def _array_words(value: Tensor | np.ndarray[Any, Any]) -> str:
    form = f"{value.dtype}{tuple(value.shape)}"
    if isinstance(value, Tensor):  # as bytes, because NumPy has no bfloat16
        value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return form + hashlib.sha256(value.tobytes()).hexdigest()


def _sources(module: nn.Module) -> set[str]:
    """Return a digest of every file behind a module's classes and functions, and of classes that have no file."""
    kinds = {kind for part in module.modules() for kind in type(part).__mro__}
    functions = [value for part in module.modules() for value in vars(part).values() if isinstance(value, FunctionType)]
    files = _files([item.__module__ for item in (*kinds, *functions)])
    typed_in = [kind for kind in kinds if not _is_steady(kind.__module__) and _file(kind.__module__) is None]
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files} | {_code_words(kind) for kind in typed_in}


def _files(modules: Iterable[str]) -> set[Path]:
    """Return the files of modules and, as long as they are the user's own, of the modules that those import."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = None if _is_steady(name) else _file(name)
        if path is None or path in found:
            continue
        found.add(path)
        if not set(path.parts) & {"site-packages", "dist-packages"}:
            waiting += _imported(sys.modules[name])
    return found


def _is_steady(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in STEADY


def _file(module: str) -> Path | None:
    """Return the source file of a loaded module; None for one that was typed in, built in or compiled."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file is not None and file.endswith(".py") else None


def _imported(module: ModuleType) -> Iterator[str]:
    """Yield the names of the modules that a module's globals are or come from."""
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(name, str):
            yield name


def _code_words(kind: type | CodeType) -> str:
    """Return the instructions of a class's methods or of one piece of code, and the constants in them."""
    if isinstance(kind, type):
        return "".join(_code_words(value.__code__) for value in vars(kind).values() if isinstance(value, FunctionType))
    constants = [_code_words(item) if isinstance(item, CodeType) else repr(item) for item in kind.co_consts]
    return f"{kind.co_code.hex()}{kind.co_names}{constants}"
