"""What a module costs on paper: multiply-adds of its matrix products, and parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Return the multiply-adds of one forward pass; norms, activations and softmax are not counted.

    Args:
        module: is run once.
        inputs: of its `forward`, in order.
    """
    # Attention as separate products, because torch counts no fused kernel on a CPU.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs)
    flops: int = counter.get_total_flops()
    return flops // 2


def parameters(module: nn.Module) -> int:
    """Return how many numbers a module has to learn; a tensor used twice counts once."""
    return sum(parameter.numel() for parameter in module.parameters())
