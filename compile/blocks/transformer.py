"""Pre-norm transformer layers: self-attention, and self-attention with a cross-attended context."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from sanderling.compile.blocks.attention import Attention, AttentionTrace


def quick_gelu(x: Tensor) -> Tensor:
    """X * sigmoid(1.702 x), the activation CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU, as SigLIP and ViViT use it."""
    return functional.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "quick_gelu": quick_gelu,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_fast": gelu_tanh,
}


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, [batch, n, width] -> the same shape."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed tokens, [batch, n, width]."""
        out: Tensor = self.fc2(self.activation(self.fc1(x)))
        return out


class EncoderLayer(nn.Module):
    """One pre-norm encoder layer; parameter names follow Hugging Face's CLIP."""

    def __init__(self, width: int, heads: int, hidden: int, activation: str = "gelu", eps: float = 1e-5) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.self_attn = Attention(width, heads)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, hidden, activation)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the layer's output, [batch, n, width]; `bias` is added to the attention logits."""
        x = x + self.self_attn(self.layer_norm1(x), bias=bias)
        return x + self._feed(x)

    def traced(self, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, AttentionTrace]:
        """Return the layer's output and what its attention saw."""
        attended, trace = self.self_attn.traced(self.layer_norm1(x), bias)
        x = x + attended
        return x + self._feed(x), trace

    def _feed(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(self.layer_norm2(x))
        return out


class CrossLayer(nn.Module):
    """One pre-norm layer: self-attention, cross-attention to a context, feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, context_width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.self_attn = Attention(width, heads)
        self.layer_norm_cross = nn.LayerNorm(width, eps=eps)
        self.cross_attn = Attention(width, heads, context_width)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, hidden, "gelu")

    def forward(
        self, x: Tensor, context: Tensor, bias: Tensor | None = None, context_bias: Tensor | None = None
    ) -> Tensor:
        """Return the fused tokens.

        Args:
            x: [batch, n, width]
            context: [batch, m, context_width]
            bias: self-attention logit bias, broadcast to [batch, heads, n, n].
            context_bias: cross-attention logit bias, broadcast to [batch, heads, n, m].

        Returns:
            [batch, n, width]
        """
        x = x + self.self_attn(self.layer_norm1(x), bias=bias)
        x = x + self.cross_attn(self.layer_norm_cross(x), context, context_bias)
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out
