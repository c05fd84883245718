"""The reducers' array verbs on torch; torch's exporter carries them into the graph."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class TorchArrays:
    """The verbs of `sanderling.arrays.Arrays` on torch tensors."""

    def top(self, scores: Tensor, keep: int) -> Tensor:
        """[batch, n] -> int [batch, keep], best first; equal ones by place.

        ONNX's TopK promises that order and torch's does not, so outside the graph a stable sort does it.
        """
        if torch.compiler.is_exporting():
            return torch.topk(scores, keep, dim=-1).indices
        return torch.sort(scores, dim=-1, descending=True, stable=True).indices[..., :keep]

    def ascending(self, places: Tensor) -> Tensor:
        """[batch, keep] -> the same places in ascending order.

        By top-k, because torch 2.13's exporter has no ONNX function for a stable sort; in float, because
        TensorRT's TopK takes no integers on older parsers.
        """
        return (-torch.topk(-places.to(torch.float32), places.shape[-1], dim=-1).values).to(torch.int64)

    def rows(self, table: Tensor, places: Tensor) -> Tensor:
        """[batch, n, width], [batch, keep] -> [batch, keep, width]."""
        return torch.gather(table, 1, places[..., None].expand(-1, -1, table.shape[-1]))

    def best(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """[..., n] -> highest score [...] and its place [...]."""
        return scores.amax(-1), scores.argmax(-1)

    def where(self, condition: Tensor, then: Tensor | float, otherwise: Tensor | float) -> Tensor:
        """Elementwise choice."""
        return torch.where(condition, then, otherwise)

    def floor(self, values: Tensor) -> Tensor:
        """Round down, elementwise."""
        return values.floor()

    def round(self, values: Tensor) -> Tensor:
        """Round to the nearest whole number, elementwise."""
        return values.round()

    def spread(self, values: NDArray[np.float32], like: Tensor) -> Tensor:
        """Float [n] -> [batch, n]."""
        return torch.as_tensor(values, dtype=torch.float32, device=like.device).expand(like.shape[0], -1)

    def count_up(self, keep: int, like: Tensor) -> Tensor:
        """Float [keep]: 0, 1, 2, ..."""
        return torch.arange(keep, device=like.device).to(torch.float32)

    def as_float(self, values: Tensor) -> Tensor:
        """Booleans or integers as float32."""
        return values.to(torch.float32)

    def as_place(self, values: Tensor) -> Tensor:
        """Whole floats as int64 places."""
        return values.to(torch.int64)
