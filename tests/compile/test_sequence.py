"""The sequence encoder equals torch's own, and reduces its tokens as the reducers say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sanderling import lookup
from sanderling.arrays import NumpyArrays
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.sequence import SequenceConfig, SequenceEncoder, energy, group_frames
from sanderling.compile.blocks.transformer import EncoderLayer
from sanderling.reduction import View

CONFIG = SequenceConfig(tokens=12, values=6, width=16, layers=2, heads=4, hidden=24)
REDUCERS = ("random", "grid", "saliency", "merge")
ROWS = torch.randn(2, CONFIG.tokens, CONFIG.values, generator=torch.Generator().manual_seed(1))
ROUNDING = 1e-5
"""Values of size 1; explicit and fused attention sum in different orders."""


def make_encoder(reduce_at: ReduceAt | None = None) -> SequenceEncoder:
    torch.manual_seed(0)
    encoder = SequenceEncoder(CONFIG, reduce_at).eval()
    for parameter in encoder.parameters():
        parameter.data.normal_(0, 0.3)  # small weights would hide attention errors
    return encoder


def torch_encoder(ours: SequenceEncoder) -> nn.TransformerEncoder:
    """Return torch's encoder with the same weights."""
    layer = nn.TransformerEncoderLayer(
        CONFIG.width, CONFIG.heads, CONFIG.hidden, activation="gelu", batch_first=True, norm_first=True
    )
    theirs = nn.TransformerEncoder(layer, CONFIG.layers, nn.LayerNorm(CONFIG.width), enable_nested_tensor=False).eval()
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        assert isinstance(mine, EncoderLayer)
        assert isinstance(other, nn.TransformerEncoderLayer)
        projections = (mine.self_attn.q_proj, mine.self_attn.k_proj, mine.self_attn.v_proj)
        other.self_attn.in_proj_weight.data = torch.cat([p.weight for p in projections])
        other.self_attn.in_proj_bias.data = torch.cat([p.bias for p in projections])
        other.self_attn.out_proj.load_state_dict(mine.self_attn.out_proj.state_dict())
        pairs = ((mine.layer_norm1, other.norm1), (mine.layer_norm2, other.norm2))
        for own, its in (*pairs, (mine.mlp.fc1, other.linear1), (mine.mlp.fc2, other.linear2)):
            its.load_state_dict(own.state_dict())
    assert theirs.norm is not None
    theirs.norm.load_state_dict(ours.post_layernorm.state_dict())
    return theirs


def embedded(encoder: SequenceEncoder, rows: Tensor, kept: Tensor) -> Tensor:
    """Return the embedded rows that are kept, each with the position it had."""
    every = encoder.token_embedding(rows) + encoder.position_embedding
    return torch.stack([row[places] for row, places in zip(every, kept, strict=True)])


def test_without_reduction_it_equals_torch_s_encoder() -> None:
    encoder = make_encoder()
    with torch.inference_mode():
        tokens = encoder(ROWS)
        expected = torch_encoder(encoder)(encoder.token_embedding(ROWS) + encoder.position_embedding)
    torch.testing.assert_close(tokens.rows, expected, atol=ROUNDING, rtol=0)
    assert tokens.kept.tolist() == [list(range(CONFIG.tokens))] * 2


def test_saliency_at_the_input_keeps_the_loudest_tokens_and_encodes_only_them() -> None:
    encoder = make_encoder(ReduceAt(lookup.find("reducer", "saliency"), 0))
    with torch.inference_mode():
        tokens = encoder(ROWS, torch.tensor(5))
        loudest = np.sort(np.argsort(-ROWS.numpy().mean(-1), axis=-1)[:, :5], axis=-1)
        expected = torch_encoder(encoder)(embedded(encoder, ROWS, torch.from_numpy(loudest)))
    np.testing.assert_array_equal(tokens.kept.numpy(), loudest)
    torch.testing.assert_close(tokens.rows, expected, atol=ROUNDING, rtol=0)


def test_saliency_after_a_layer_keeps_the_tokens_that_received_most_attention() -> None:
    encoder = make_encoder(ReduceAt(lookup.find("reducer", "saliency"), 1))
    first, second = torch_encoder(encoder).layers
    assert isinstance(first, nn.TransformerEncoderLayer)
    with torch.inference_mode():
        tokens = encoder(ROWS, torch.tensor(5))
        start = encoder.token_embedding(ROWS) + encoder.position_embedding
        normed = first.norm1(start)
        received = first.self_attn(normed, normed, normed, need_weights=True)[1].mean(1)
        kept = received.topk(5).indices.sort().values
        rows = torch.gather(first(start), 1, kept[..., None].expand(-1, -1, CONFIG.width))
        expected = encoder.post_layernorm(second(rows))
    assert tokens.kept.tolist() == kept.tolist()
    torch.testing.assert_close(tokens.rows, expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", REDUCERS)
def test_all_tokens_equal_the_plain_encoder_and_fewer_differ(name: str, layer: int) -> None:
    with torch.inference_mode():
        plain = make_encoder()(ROWS)
        reducing = make_encoder(ReduceAt(lookup.find("reducer", name), layer))
        whole, half = reducing(ROWS, torch.tensor(12)), reducing(ROWS, torch.tensor(6))
    torch.testing.assert_close(whole.rows, plain.rows, atol=ROUNDING, rtol=0)
    assert half.rows.shape == (2, 6, CONFIG.width)
    assert not torch.allclose(half.rows[:, 0], plain.rows[:, 0], atol=1e-4)


@pytest.mark.parametrize("name", REDUCERS)
def test_the_input_is_seen_by_a_reducer_as_a_grid_of_one_row(name: str) -> None:
    reducer = lookup.find("reducer", name)
    view = View(ROWS.numpy(), ROWS.numpy().mean(-1), np.float32(5), (1, CONFIG.tokens))
    expected = reducer(NumpyArrays(), view, 5)
    with torch.inference_mode():
        tokens = make_encoder(ReduceAt(reducer, 0))(ROWS, torch.tensor(5))
    np.testing.assert_array_equal(tokens.kept.numpy(), expected.kept)
    assert float(tokens.sizes.sum()) == (2 * CONFIG.tokens if reducer.merges else 2 * 5)


def test_grouped_frames_and_linear_equal_a_convolution_over_time() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv1d(6, 10, 3, stride=3)
    assert convolution.bias is not None
    weights = convolution.weight.permute(2, 1, 0).flatten(0, 1)
    rows = group_frames(ROWS, 3) @ weights + convolution.bias
    torch.testing.assert_close(rows, convolution(ROWS.mT).mT, atol=1e-5, rtol=1e-5)


def test_energy_is_the_logarithm_of_the_geometric_mean() -> None:
    bands = np.exp(ROWS.numpy())
    np.testing.assert_allclose(np.exp(energy(ROWS).numpy()), bands.prod(-1) ** (1 / CONFIG.values), rtol=1e-5)


@pytest.mark.parametrize("keep", [0, 13])
def test_keep_outside_the_range_is_refused(keep: int) -> None:
    with pytest.raises(RuntimeError):
        make_encoder(ReduceAt(lookup.find("reducer", "saliency"), 0))(ROWS, torch.tensor(keep))
