"""Multiply-adds equal a count by hand on the shared blocks."""

from __future__ import annotations

import pytest
import torch
from prunable import HEADS, HIDDEN, WIDTH, stack, tokens
from torch import nn

from sanderling.compile.blocks.attention import Attention
from sanderling.compile.blocks.transformer import CrossLayer, EncoderLayer, FeedForward
from sanderling.compile.flops import multiply_adds, parameters
from sanderling.compile.pruning.groups import Group
from sanderling.compile.pruning.surgery import prune_module

BATCH, N, M, CONTEXT = 3, 5, 7, 8


def attention(n: int, m: int, context: int, heads: int = HEADS) -> int:
    """Count by hand: query, key and value, logits and their weighted sum, output."""
    inner = heads * (WIDTH // HEADS)
    return n * WIDTH * inner + 2 * m * context * inner + 2 * n * m * inner + n * inner * WIDTH


def feed(n: int, hidden: int = HIDDEN) -> int:
    return 2 * n * WIDTH * hidden


@pytest.mark.parametrize("n", [1, N])
def test_multiply_adds_of_the_blocks_equal_a_count_by_hand(n: int) -> None:
    x, context = tokens(BATCH, n), torch.randn(BATCH, M, CONTEXT)
    assert multiply_adds(Attention(WIDTH, HEADS), (x,)) == BATCH * attention(n, n, WIDTH)
    assert multiply_adds(Attention(WIDTH, HEADS, CONTEXT), (x, context)) == BATCH * attention(n, M, CONTEXT)
    assert multiply_adds(FeedForward(WIDTH, HIDDEN, "gelu"), (x,)) == BATCH * feed(n)
    encoder, cross = EncoderLayer(WIDTH, HEADS, HIDDEN), CrossLayer(WIDTH, HEADS, HIDDEN, CONTEXT)
    assert multiply_adds(encoder, (x,)) == BATCH * (attention(n, n, WIDTH) + feed(n))
    by_hand = attention(n, n, WIDTH) + attention(n, M, CONTEXT) + feed(n)
    assert multiply_adds(cross, (x, context)) == BATCH * by_hand


def test_a_logit_bias_costs_no_multiply_adds() -> None:
    x, bias = tokens(BATCH, N), torch.zeros(1, 1, N, N)
    assert multiply_adds(Attention(WIDTH, HEADS), (x, x, bias)) == BATCH * attention(N, N, WIDTH)


def test_what_is_pruned_is_no_longer_counted() -> None:
    cuts = {
        Group("layers", "encoders", 2): (0,),
        Group("heads", "encoders.1.self_attn", HEADS): (0, 2),
        Group("channels", "encoders.1.mlp", HIDDEN): tuple(range(8)),
    }
    whole = stack(2, 0)
    small = prune_module(whole, cuts)
    x = tokens(BATCH, N)
    assert multiply_adds(whole, (x,)) == 2 * BATCH * (attention(N, N, WIDTH) + feed(N))
    assert multiply_adds(small, (x,)) == BATCH * (attention(N, N, WIDTH, 2) + feed(N, 16))
    inner, norms = 2 * WIDTH // HEADS, 4 * WIDTH
    by_hand = 3 * (WIDTH * inner + inner) + inner * WIDTH + WIDTH + norms + 2 * WIDTH * 16 + 16 + WIDTH
    assert parameters(small) == by_hand


def test_a_shared_tensor_counts_once() -> None:
    pair = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    assert parameters(pair) == 24
    pair[1].weight = pair[0].weight
    assert parameters(pair) == 15
