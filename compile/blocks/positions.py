"""Position tables that are computed and not learned."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def sinusoids(positions: int, width: int) -> Tensor:
    """Return fixed sine and cosine positions, float32 [positions, width], computed in float64.

    Channels 2i and 2i + 1 are the sine and cosine of position / 10000^(2i / width) (Vaswani et al., Attention Is All
    You Need, section 3.5).
    """
    pairs = np.arange(width) // 2
    angles = np.arange(positions)[:, None] / 10000.0 ** (2 * pairs / width)
    table = np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles))
    # Not a torch factory: the table has values also where modules are built on the meta device.
    return torch.from_numpy(table.astype(np.float32))
