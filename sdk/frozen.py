"""Arrays that nobody can write to any more, so that several readers may share them."""

from __future__ import annotations

import numpy as np

from sanderling.engine import AnyArray


def is_frozen(array: AnyArray) -> bool:
    """Return whether nothing can write to an array: it and every array it is a view of are read-only."""
    base: object = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or isinstance(base, bytes)


def frozen(array: AnyArray) -> AnyArray:
    """Return the array itself when it is frozen, else a read-only copy, which its owner's writes do not reach."""
    if is_frozen(array):
        return array
    copy = array.copy()
    copy.flags.writeable = False
    return copy
