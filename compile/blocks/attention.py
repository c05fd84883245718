"""Multi-head attention, written once for every architecture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class AttentionTrace:
    """What an attention layer saw, for reducers that decide by it.

    Attributes:
        received: attention each token received, mean over heads and queries, [batch, tokens].
        keys: mean over heads of the key vectors, [batch, tokens, head_width].
    """

    received: Tensor
    keys: Tensor


class Attention(nn.Module):
    """Scaled dot-product attention over separate query, key and value projections.

    The projections are separate, so that pruning and quantization can treat them one by one. `heads * head_width` need
    not be the width: a pruned attention has fewer heads of the same width.

    Args:
        width: of the tokens that ask and of the answer.
        heads: how many.
        context_width: of the tokens that are looked at; `width` when None.
        head_width: of each head; `width / heads` when None.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None, head_width: int | None = None) -> None:
        super().__init__()
        if head_width is None and width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        source = width if context_width is None else context_width
        self.heads = heads
        self.head_width = width // heads if head_width is None else head_width
        inner = heads * self.head_width
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(source, inner)
        self.v_proj = nn.Linear(source, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, x: Tensor, context: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Return the attended tokens.

        Args:
            x: queries come from here, [batch, n, width].
            context: keys and values come from here, [batch, m, context_width]; `x` when None.
            bias: added to the logits, broadcast to [batch, heads, n, m]; -inf hides a key.

        Returns:
            [batch, n, width]
        """
        q, k, v = self._project(x, x if context is None else context)
        if torch.compiler.is_exporting():
            # The fused call asks whether the token count is 1, which the exporter cannot know.
            return self._join(self._weights(q, k, bias) @ v)
        return self._join(functional.scaled_dot_product_attention(q, k, v, attn_mask=bias))

    def traced(self, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, AttentionTrace]:
        """Return self-attention and its trace; costs the explicit attention matrix."""
        q, k, v = self._project(x, x)
        weights = self._weights(q, k, bias)
        trace = AttentionTrace(received=weights.mean(dim=(1, 2)), keys=k.mean(dim=1))
        return self._join(weights @ v), trace

    def _project(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (
            self._split(self.q_proj(x)),
            self._split(self.k_proj(context)),
            self._split(self.v_proj(context)),
        )

    def _weights(self, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
        """Return the attention matrix, [batch, heads, n, m]."""
        logits = (q * self.head_width**-0.5) @ k.transpose(-1, -2)
        return torch.softmax(logits if bias is None else logits + bias, dim=-1)

    def _split(self, x: Tensor) -> Tensor:
        """[batch, n, heads * head_width] -> [batch, heads, n, head_width]."""
        batch, n, _ = x.shape
        return x.reshape(batch, n, self.heads, self.head_width).transpose(1, 2)

    def _join(self, x: Tensor) -> Tensor:
        """[batch, heads, n, head_width] -> [batch, n, width], projected."""
        out: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))
        return out


def size_bias(sizes: Tensor | None) -> Tensor | None:
    """Return the logit bias that lets a merged token count as the tokens it stands for.

    Proportional attention: log(size) added to the logits of a key (Bolya et al., Token Merging,
    section 3, equation 1).

    Args:
        sizes: tokens each row stands for, [batch, m], or None when nothing was merged.

    Returns:
        [batch, 1, 1, m] or None
    """
    return None if sizes is None else sizes.log()[:, None, None, :]
