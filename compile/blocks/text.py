"""A text transformer, causal or not, and the ways to pick the token that stands for the text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sanderling.compile.blocks.transformer import EncoderLayer


@dataclass(frozen=True)
class TextConfig:
    """Sizes of a text transformer; widths in channels, `positions` is the longest text in tokens."""

    vocabulary: int
    positions: int
    width: int
    layers: int
    heads: int
    hidden: int
    activation: str = "gelu"
    eps: float = 1e-5
    causal: bool = False


class TextEncoder(nn.Module):
    """Token ids -> transformer layers -> normalised tokens.

    Padding is not hidden: a causal model is read at its end token, before the padding, and a model trained on texts
    of one fixed length attends to its padding on purpose.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.position_embedding = nn.Parameter(torch.randn(config.positions, width) * 0.02)
        self.layers = nn.ModuleList(
            EncoderLayer(width, config.heads, config.hidden, config.activation, config.eps)
            for _ in range(config.layers)
        )
        self.final_layer_norm = nn.LayerNorm(width, eps=config.eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        """int64 [batch, tokens] -> [batch, tokens, width], with tokens at most `positions`."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        # Looked up, not sliced: a slice would tie the exported graph to lengths known while tracing.
        rows = self.token_embedding(input_ids) + functional.embedding(places, self.position_embedding)
        bias = causal_bias(places) if self.config.causal else None
        for layer in self.layers:
            rows = layer(rows, bias)
        out: Tensor = self.final_layer_norm(rows)
        return out


def causal_bias(places: Tensor) -> Tensor:
    """int64 [tokens] -> float [1, 1, tokens, tokens]: -inf where a query would look at a later key, else 0."""
    later = places[None, :] > places[:, None]
    return torch.zeros_like(later, dtype=torch.float32).masked_fill(later, float("-inf"))[None, None]


def first_place(marks: Tensor) -> Tensor:
    """Return the place of the first mark in each row, 0 where there is none; bool [batch, n] -> int64 [batch].

    Every score is unique, because engines break ties of a maximum differently.
    """
    n = marks.shape[1]
    countdown = n - torch.arange(n, device=marks.device)
    return (marks.to(torch.int64) * n + countdown).to(torch.float32).argmax(-1)


def row_at(rows: Tensor, place: Tensor) -> Tensor:
    """[batch, n, width], int64 [batch] -> [batch, width]."""
    return torch.gather(rows, 1, place[:, None, None].expand(-1, 1, rows.shape[-1]))[:, 0]
