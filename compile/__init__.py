"""The compiler: passes, export, lowering, measuring and packing. Runs on the host and needs the `compile` extra.

    from sanderling.compile import compile_model
    compile_model("clip-vit-base-patch16", "clip.sand")

The names are loaded on first use, so that listing the command's verbs does not import torch.
"""

from __future__ import annotations

import importlib
from importlib import util
from typing import TYPE_CHECKING, Any

from sanderling.errors import MissingExtraError

if TYPE_CHECKING:
    from sanderling.calibration.dataset import Data
    from sanderling.compile.architecture import Adapted, Architecture, Part
    from sanderling.compile.pipeline import compile_model
    from sanderling.compile.recipe import Recipe

__all__ = ["Adapted", "Architecture", "Data", "Part", "Recipe", "compile_model"]

_HOMES = {
    "Adapted": "sanderling.compile.architecture",
    "Architecture": "sanderling.compile.architecture",
    "Data": "sanderling.calibration.dataset",
    "Part": "sanderling.compile.architecture",
    "Recipe": "sanderling.compile.recipe",
    "compile_model": "sanderling.compile.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for library in ("torch", "onnx", "onnxscript", "safetensors"):
        if util.find_spec(library) is None:
            raise MissingExtraError(library, "compile", "the compiler")
    return getattr(importlib.import_module(_HOMES[name]), name)
