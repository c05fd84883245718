"""Attention, layers and text blocks equal torch's own with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN

from sanderling.compile.blocks.attention import Attention
from sanderling.compile.blocks.pooling import unit_length
from sanderling.compile.blocks.text import causal_bias, first_place, row_at
from sanderling.compile.blocks.transformer import ACTIVATIONS, CrossLayer, EncoderLayer

WIDTH, HEADS, HIDDEN = 16, 4, 24
ROUNDING = 1e-5
"""Values of size 1; torch's fused kernels sum in another order."""


def randomise(module: nn.Module) -> nn.Module:
    """Fill with values large enough that no term hides."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.4)
    return module.eval()


def rows(tokens: int, seed: int = 0) -> Tensor:
    return torch.randn(2, tokens, WIDTH, generator=torch.Generator().manual_seed(seed))


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    projections = (ours.q_proj, ours.k_proj, ours.v_proj)
    theirs.in_proj_weight.data = torch.cat([p.weight for p in projections])
    theirs.in_proj_bias.data = torch.cat([p.bias for p in projections])
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())


@pytest.mark.parametrize("tokens", [1, HEADS, 7])
def test_attention_equals_torch_s(tokens: int) -> None:
    ours = Attention(WIDTH, HEADS)
    randomise(ours)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    copy_attention(ours, theirs)
    x, context = rows(tokens), rows(5, 1)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x, x, x)[0], atol=ROUNDING, rtol=0)
        torch.testing.assert_close(ours(x, context), theirs(x, context, context)[0], atol=ROUNDING, rtol=0)
        bias = causal_bias(torch.arange(tokens))
        causal = theirs(x, x, x, attn_mask=bias[0, 0])[0]
        torch.testing.assert_close(ours(x, bias=bias), causal, atol=ROUNDING, rtol=0)
        attended, trace = ours.traced(x)
        torch.testing.assert_close(attended, theirs(x, x, x)[0], atol=ROUNDING, rtol=0)
        received = theirs(x, x, x, need_weights=True)[1].mean(1)
        torch.testing.assert_close(trace.received, received, atol=ROUNDING, rtol=0)


def test_an_encoder_layer_equals_torch_s() -> None:
    ours = EncoderLayer(WIDTH, HEADS, HIDDEN)
    randomise(ours)
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, activation="gelu", batch_first=True, norm_first=True, layer_norm_eps=1e-5
    ).eval()
    copy_attention(ours.self_attn, theirs.self_attn)
    pairs = ((ours.layer_norm1, theirs.norm1), (ours.layer_norm2, theirs.norm2))
    for mine, other in (*pairs, (ours.mlp.fc1, theirs.linear1), (ours.mlp.fc2, theirs.linear2)):
        other.load_state_dict(mine.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(ours(rows(6)), theirs(rows(6)), atol=ROUNDING, rtol=0)
        torch.testing.assert_close(ours.traced(rows(6))[0], theirs(rows(6)), atol=ROUNDING, rtol=0)


def test_a_cross_layer_equals_torch_s_decoder_layer() -> None:
    ours = CrossLayer(WIDTH, HEADS, HIDDEN, WIDTH)
    randomise(ours)
    theirs = nn.TransformerDecoderLayer(
        WIDTH, HEADS, HIDDEN, activation="gelu", batch_first=True, norm_first=True, layer_norm_eps=1e-5
    ).eval()
    copy_attention(ours.self_attn, theirs.self_attn)
    copy_attention(ours.cross_attn, theirs.multihead_attn)
    norms = zip(
        (ours.layer_norm1, ours.layer_norm_cross, ours.layer_norm2),
        (theirs.norm1, theirs.norm2, theirs.norm3),
        strict=True,
    )
    for mine, other in (*norms, (ours.mlp.fc1, theirs.linear1), (ours.mlp.fc2, theirs.linear2)):
        other.load_state_dict(mine.state_dict())
    x, context = rows(6), rows(9, 1)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x, context), theirs(x, context), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_hugging_face_s(name: str) -> None:
    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(ACTIVATIONS[name](x), ACT2FN[name](x), atol=1e-6, rtol=0)


def test_a_causal_bias_hides_what_is_later() -> None:
    wanted = nn.Transformer.generate_square_subsequent_mask(5)
    assert torch.equal(causal_bias(torch.arange(5))[0, 0], wanted)


def test_the_first_mark_is_found_and_its_row_taken() -> None:
    marks = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    assert first_place(marks).tolist() == marks.int().argmax(-1).tolist() == [1, 3, 0, 0]
    table = torch.arange(4 * 4 * 3).reshape(4, 4, 3)
    assert torch.equal(row_at(table, first_place(marks)), table[torch.arange(4), first_place(marks)])


def test_unit_length_equals_torch_s_normalisation() -> None:
    torch.testing.assert_close(unit_length(rows(3)), functional.normalize(rows(3), dim=-1), atol=1e-6, rtol=0)
