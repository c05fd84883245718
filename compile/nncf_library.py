"""Loads NNCF so that it reports nothing to anyone."""

from __future__ import annotations

import os
from importlib import import_module, util
from typing import Any

from sanderling.errors import MissingExtraError

_SILENT = "NNCF_CI"
"""NNCF sends usage events over the network without asking, unless this variable is set when it is imported."""


def missing_nncf(purpose: str) -> str | None:
    """Return what to install, or None when NNCF is here.

    Args:
        purpose: what needs it.
    """
    return None if util.find_spec("nncf") else str(MissingExtraError("nncf", "compile", purpose))


def load_nncf() -> Any:
    """Return the library; the environment is left as it was."""
    before = os.environ.get(_SILENT)
    os.environ[_SILENT] = "1"
    try:
        return import_module("nncf")
    finally:
        if before is None:
            del os.environ[_SILENT]
        else:
            os.environ[_SILENT] = before
