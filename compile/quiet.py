"""Keeps what quantization libraries print, log and draw off the user's screen."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

_LOGGERS = ("", "nncf", "onnxruntime.quantization")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence libraries inside; their exceptions still come out."""
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        for name in before:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # About the libraries' own code, not about the model.
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
