"""A transformer over a sequence of fixed length, such as audio frames, with places where its tokens can be reduced."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sanderling.compile.blocks.attention import size_bias
from sanderling.compile.blocks.reduce import ReduceAt, TokenSet, all_tokens, choose, reduce_tokens
from sanderling.compile.blocks.transformer import EncoderLayer


@dataclass(frozen=True)
class SequenceConfig:
    """Sizes of a sequence transformer; `tokens` long, each token made of `values` numbers, widths in channels."""

    tokens: int
    values: int
    width: int
    layers: int
    heads: int
    hidden: int
    activation: str = "gelu"
    eps: float = 1e-5

    @property
    def grid(self) -> tuple[int, int]:
        """The sequence as a grid of one row."""
        return 1, self.tokens


def group_frames(frames: Tensor, together: int) -> Tensor:
    """[batch, n, values] -> [batch, n / together, together * values]: neighbouring frames side by side as one token.

    A linear layer on these rows equals a convolution over time with kernel and stride `together`.
    """
    batch, n, values = frames.shape
    return frames.reshape(batch, n // together, together * values)


def energy(rows: Tensor) -> Tensor:
    """Return how loud each token is, [batch, n, values] -> [batch, n].

    Values are taken for logarithms of band energies, so their mean is the logarithm of the bands' geometric mean.
    """
    return rows.mean(-1)


class SequenceEncoder(nn.Module):
    """Rows -> transformer layers -> normalised tokens, reduced at one site when asked.

    At the input a token's saliency is its energy, and similarity is measured on its values; at an inner site both come
    from attention, as in `VisionEncoder`.
    """

    def __init__(self, config: SequenceConfig, reduce_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.config = config
        self.reduce_at = reduce_at
        width = config.width
        self.token_embedding = nn.Linear(config.values, width)
        self.position_embedding = nn.Parameter(torch.randn(config.tokens, width) * 0.02)
        self.layers = nn.ModuleList(
            EncoderLayer(width, config.heads, config.hidden, config.activation, config.eps)
            for _ in range(config.layers)
        )
        self.post_layernorm = nn.LayerNorm(width, eps=config.eps)

    def forward(self, rows: Tensor, keep: Tensor | None = None) -> TokenSet:
        """Return the encoded tokens.

        Args:
            rows: [batch, tokens, values]
            keep: tokens to keep, int64 scalar; needed when the encoder was built with `reduce_at`.

        Returns:
            Rows [batch, keep, width]; sizes and original places of the same length.
        """
        tokens = self._embed(rows, keep)
        for number, layer in enumerate(self.layers, start=1):
            tokens = self._layer(number, layer, tokens, keep)
        return TokenSet(self.post_layernorm(tokens.rows), tokens.sizes, tokens.kept)

    def _embed(self, rows: Tensor, keep: Tensor | None) -> TokenSet:
        positions = self.position_embedding.expand(rows.shape[0], -1, -1)
        if self.reduce_at is None or self.reduce_at.layer != 0 or keep is None:
            return all_tokens(self.token_embedding(rows) + positions)
        reduction = choose(self.reduce_at.reducer, rows, energy(rows), keep, self.config.grid)
        left, places = (reduce_tokens(all_tokens(table), reduction) for table in (rows, positions))
        return TokenSet(self.token_embedding(left.rows) + places.rows, left.sizes, left.kept)

    def _layer(self, number: int, layer: nn.Module, tokens: TokenSet, keep: Tensor | None) -> TokenSet:
        assert isinstance(layer, EncoderLayer)
        at = self.reduce_at
        bias = size_bias(tokens.sizes) if at is not None and at.reducer.merges and number > at.layer else None
        if at is None or keep is None or number != at.layer:
            return TokenSet(layer(tokens.rows, bias), tokens.sizes, tokens.kept)
        rows, trace = layer.traced(tokens.rows, bias)
        reduction = choose(at.reducer, trace.keys, trace.received, keep, self.config.grid)
        return reduce_tokens(TokenSet(rows, tokens.sizes, tokens.kept), reduction)
