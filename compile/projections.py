"""Checkpoint tensors that hold query, key and value in one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sanderling.compile.checkpoint import Weights
from sanderling.errors import CheckpointError


def split_projections(weights: Mapping[str, Tensor], fused: str) -> Weights:
    """Return the weights with every fused projection in three: q_proj, k_proj and v_proj beside each other.

    Args:
        weights: as `read_weights` returns them.
        fused: how the names of fused layers end, such as ".qkv"; they are [3 * width, ...], in that order.

    Raises:
        CheckpointError: a fused tensor whose rows are not three times anything.
    """
    split: Weights = {}
    for name, tensor in weights.items():
        layer, _, kind = name.rpartition(".")
        if not layer.endswith(fused):
            split[name] = tensor
            continue
        if tensor.ndim == 0 or tensor.shape[0] % 3:
            raise CheckpointError(
                f"tensor {name!r} has shape {list(tensor.shape)}, expected query, key and value of one width below "
                "each other; take the weights from the official checkpoint"
            )
        before = layer.removesuffix(fused)
        split.update(
            (f"{before}.{projection}_proj.{kind}", part)
            for projection, part in zip("qkv", tensor.chunk(3), strict=True)
        )
    return split
