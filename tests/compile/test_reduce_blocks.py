"""The reducers' torch form equals their NumPy form, and a reducing encoder equals the plain one at all tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sanderling import lookup
from sanderling.arrays import NumpyArrays
from sanderling.compile.blocks.attention import Attention
from sanderling.compile.blocks.reduce import ReduceAt, choose
from sanderling.compile.blocks.vision import VisionConfig, VisionEncoder, contrast, overlapping_patches, patchify
from sanderling.reduction import View

REDUCERS = lookup.names("reducer")
CONFIG = VisionConfig(image_size=32, patch_size=8, width=32, layers=2, heads=4, hidden=64, class_token=True)


def make_encoder(reduce_at: ReduceAt | None = None) -> VisionEncoder:
    torch.manual_seed(0)
    encoder = VisionEncoder(CONFIG, reduce_at).eval()
    for parameter in encoder.parameters():
        parameter.data.normal_(0, 0.3)  # small weights would hide attention errors
    return encoder


@pytest.mark.parametrize("keep", [1, 2, 5, 8, 13, 16])
@pytest.mark.parametrize("name", REDUCERS)
def test_torch_equals_numpy(name: str, keep: int) -> None:
    rng = np.random.default_rng(keep)
    metric = rng.standard_normal((2, 16, 8)).astype(np.float32)
    saliency, relevance = (rng.random((2, 16), dtype=np.float32) for _ in range(2))
    reducer = lookup.find("reducer", name)
    expected = reducer(NumpyArrays(), View(metric, saliency, np.float32(keep), (4, 4), relevance), keep)
    seen, salient, relevant = (torch.from_numpy(array) for array in (metric, saliency, relevance))
    got = choose(reducer, seen, salient, torch.tensor(keep), (4, 4), relevant)
    np.testing.assert_array_equal(got.kept.numpy(), expected.kept)
    if expected.target is not None:
        assert got.target is not None
        np.testing.assert_array_equal(got.target.numpy(), expected.target)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", REDUCERS)
def test_all_tokens_equal_the_plain_encoder_and_fewer_differ(name: str, layer: int) -> None:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain = make_encoder()(pixels)
        reducing = make_encoder(ReduceAt(lookup.find("reducer", name), layer))
        relevance = torch.randn(2, 16, generator=torch.Generator().manual_seed(2))
        whole, half = (reducing(pixels, torch.tensor(keep), relevance) for keep in (16, 8))
    # Explicit and fused attention sum in different orders.
    torch.testing.assert_close(whole.rows, plain.rows, atol=1e-5, rtol=1e-5)
    assert half.rows.shape == (2, 9, 32)
    assert (half.kept[:, 0] == -1).all(), "the class token stays in front"
    assert not torch.allclose(half.rows[:, 0], plain.rows[:, 0], atol=1e-4)


def test_merging_duplicates_changes_nothing_because_sizes_are_carried() -> None:
    """Two equal tokens merged into one of size 2 must weigh as much as both did."""
    torch.manual_seed(0)
    attention = Attention(16, 2).eval()
    rows = torch.randn(1, 5, 16)
    doubled = torch.cat([rows, rows[:, 2:3]], dim=1)
    sizes = torch.tensor([[1.0, 1.0, 2.0, 1.0, 1.0]])
    with torch.inference_mode():
        whole = attention(doubled)[:, :5]
        merged = attention(rows, bias=sizes.log()[:, None, None, :])
        unweighted = attention(rows)
    torch.testing.assert_close(merged, whole, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(unweighted, whole, atol=1e-4)


def test_traced_attention_equals_the_fused_one_and_sums_to_one() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 4).eval()
    rows = torch.randn(2, 7, 16)
    with torch.inference_mode():
        out, trace = attention.traced(rows)
        torch.testing.assert_close(out, attention(rows), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(trace.received.sum(-1), torch.ones(2), atol=1e-5, rtol=1e-5)


def bias_of(convolution: torch.nn.Conv2d) -> torch.Tensor:
    assert convolution.bias is not None
    return convolution.bias


def test_patchify_and_linear_equal_a_strided_convolution() -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 10, 4, stride=4)
    pixels = torch.randn(2, 3, 8, 12)
    rows = patchify(pixels, 4) @ convolution.weight.flatten(1).T + bias_of(convolution)
    torch.testing.assert_close(rows, convolution(pixels).flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_overlapping_patches_and_linear_equal_a_padded_convolution() -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 10, 8, stride=4, padding=2)
    pixels = torch.randn(2, 3, 8, 12)
    blocks = convolution.weight.reshape(10, 3, 2, 4, 2, 4)
    weights = blocks.permute(0, 2, 4, 1, 3, 5).flatten(1)
    rows = overlapping_patches(pixels, 4) @ weights.T + bias_of(convolution)
    torch.testing.assert_close(rows, convolution(pixels).flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_contrast_is_the_standard_deviation_of_a_patch() -> None:
    patches = torch.randn(2, 3, 12)
    torch.testing.assert_close(contrast(patches), patches.std(-1, correction=0))


@pytest.mark.parametrize("keep", [0, 17])
def test_keep_outside_the_range_is_refused(keep: int) -> None:
    encoder = make_encoder(ReduceAt(lookup.find("reducer", "saliency"), 0))
    with pytest.raises(RuntimeError):
        encoder(torch.zeros(1, 3, 32, 32), torch.tensor(keep))


def test_width_must_be_a_multiple_of_heads() -> None:
    with pytest.raises(ValueError, match="10 is not a multiple of 4"):
        Attention(10, 4)
