"""From many tokens to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sanderling.compile.blocks.attention import Attention
from sanderling.compile.blocks.transformer import FeedForward


class AttentionPool(nn.Module):
    """A learned query that attends to all tokens, then a feed-forward layer; parameter names follow SigLIP's head."""

    def __init__(self, width: int, heads: int, hidden: int, activation: str, eps: float) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.attention = Attention(width, heads)
        self.layernorm = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, hidden, activation)

    def forward(self, rows: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the pooled tokens.

        Args:
            rows: [batch, n, width]
            bias: added to the logits, broadcast to [batch, heads, 1, n]; `size_bias` where tokens were merged.

        Returns:
            [batch, width]
        """
        seen = self.attention(self.probe.expand(rows.shape[0], -1, -1), rows, bias)
        out: Tensor = (seen + self.mlp(self.layernorm(seen)))[:, 0]
        return out


def unit_length(vectors: Tensor) -> Tensor:
    """Return the vectors [..., width] scaled to length 1."""
    return vectors / (vectors * vectors).sum(-1, keepdim=True).sqrt()


def mean_rows(rows: Tensor, sizes: Tensor | None = None) -> Tensor:
    """Return the mean row, [batch, n, width] -> [batch, width]; a row counts as often as it stands for.

    Args:
        rows: [batch, n, width]
        sizes: tokens each row stands for, [batch, n]; None where none were merged.
    """
    if sizes is None:
        return rows.mean(1)
    return (rows * (sizes / sizes.sum(-1, keepdim=True))[..., None]).sum(1)
