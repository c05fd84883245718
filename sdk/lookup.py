"""The one extension rule: a thing is a file, found by its name, that exports one constant.

Targets, devices, reducers, passes, architectures and number formats all follow it, so adding one is adding one file;
there is no list to edit and nothing to register.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from sanderling.errors import InternalError, UnknownNameError

_CONSTANTS = {
    "target": ("sanderling.targets", "TARGET"),
    "device": ("sanderling.targets.devices", "DEVICE"),
    "reducer": ("sanderling.reducers", "REDUCER"),
    "pass": ("sanderling.compile.passes", "PASS"),
    "architecture": ("sanderling.compile.models", "ARCHITECTURE"),
    "format": ("sanderling.compile.formats", "FORMAT"),
}


def names(kind: str) -> tuple[str, ...]:
    """Return the names of every thing of a kind, sorted, without importing any of them.

    Args:
        kind: "target", "device", "reducer", "pass", "architecture" or "format".
    """
    package = importlib.import_module(_CONSTANTS[kind][0])
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg))


def find(kind: str, name: str) -> Any:
    """Return the constant that the file `name` exports.

    Args:
        kind: as for `names`.
        name: a file's name without `.py`; nothing else is imported, whatever the string says.

    Raises:
        UnknownNameError: no such file; the message lists those there are.
    """
    known = names(kind)
    if name not in known:
        raise UnknownNameError(kind, name, known)
    package, constant = _CONSTANTS[kind]
    module = importlib.import_module(f"{package}.{name}")
    if not hasattr(module, constant):
        raise InternalError(f"{module.__name__} exports no {constant}; every file beside it must")
    return getattr(module, constant)
