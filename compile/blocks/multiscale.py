"""Two transformers at two patch sizes that exchange their class tokens (CrossViT, Chen et al. 2021, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sanderling.compile.blocks.attention import Attention, size_bias
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.transformer import EncoderLayer
from sanderling.compile.blocks.vision import VisionConfig, VisionEncoder

_STEMS: dict[int, tuple[tuple[int, int, int], ...]] = {
    12: ((7, 4, 3), (3, 3, 0), (3, 1, 1)),
    16: ((7, 4, 3), (3, 2, 1), (3, 2, 1)),
}
"""Patch size -> kernel, stride and padding of the three convolutions of a stem."""

STEM_PATCHES = tuple(_STEMS)


@dataclass(frozen=True)
class Tokens:
    """One branch's tokens on their way through the fusion; the class token comes first.

    Attributes:
        rows: [batch, 1 + n, width]
        sizes: original tokens each row stands for, float [batch, 1 + n].
    """

    rows: Tensor
    sizes: Tensor


class Resize(nn.Module):
    """Bicubic resizing of square pictures as two matrix products, because TensorRT has no cubic Resize.

    The matrix is what torch's own interpolation does to the unit vectors, so the two agree to rounding.
    """

    matrix: Tensor

    def __init__(self, side: int, to: int) -> None:
        super().__init__()
        # On the CPU even where the module is made on the meta device: no checkpoint holds these numbers.
        unit = torch.eye(side, device="cpu")[None, None]
        matrix = functional.interpolate(unit, size=(to, side), mode="bicubic")[0, 0]
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, channels, side, side] -> [batch, channels, to, to]."""
        return self.matrix @ pixels @ self.matrix.T


class StemEncoder(VisionEncoder):
    """A vision transformer whose patches are embedded by three convolutions that overlap.

    At the input its tokens are compared, and their contrast taken, by the stem's features instead of pixels.
    """

    def __init__(self, config: VisionConfig, reduce_at: ReduceAt | None = None) -> None:
        super().__init__(config, reduce_at)
        widths = (config.channels, config.width // 4, config.width // 2, config.width)
        first, second, third = (
            nn.Conv2d(before, after, kernel, stride, padding)
            for before, after, (kernel, stride, padding) in zip(
                widths, widths[1:], _STEMS[config.patch_size], strict=False
            )
        )
        self.stem = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        self.patch_embedding = nn.Identity()  # type: ignore[assignment]

    def _patches(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.stem(pixels)
        return features.flatten(2).transpose(1, 2)


class Branch(nn.Module):
    """Picture -> one branch's tokens after its first layers, reduced at one site when asked.

    Args:
        config: sizes of the branch; `layers` of its first block.
        side: of the pictures it is given, in pixels; resized where the branch sees another.
        stem: whether three convolutions embed the patches.
        reduce_at: where its tokens are reduced.
    """

    def __init__(self, config: VisionConfig, side: int, stem: bool, reduce_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.resize = nn.Identity() if side == config.image_size else Resize(side, config.image_size)
        self.encoder = (StemEncoder if stem else VisionEncoder)(config, reduce_at)

    def forward(self, pixel_values: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens, how many each stands for, and which patches are left.

        Args:
            pixel_values: float [batch, 3, side, side], normalised.
            keep: image tokens to keep, int64 scalar; needed when the branch reduces.

        Returns:
            float [batch, 1 + keep, width], float [batch, 1 + keep] and int64 [batch, keep].
        """
        tokens = self.encoder(self.resize(pixel_values), keep)
        return tokens.rows, tokens.sizes, tokens.kept[:, 1:]


class ClassQuery(nn.Module):
    """Cross-attention with one query: the class token asks all tokens, itself included; there is no feed-forward."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)

    def forward(self, token: Tensor, others: Tensor, bias: Tensor | None) -> Tensor:
        """[batch, 1, width] and [batch, n, width] -> [batch, 1, width]; cost is linear in n."""
        rows = self.norm1(torch.cat([token, others], dim=1))
        out: Tensor = token + self.attn(rows[:, :1], rows, bias)
        return out


class Exchange(nn.Module):
    """One multi-scale block: layers of each branch, then each class token visits the other branch's tokens.

    Args:
        branches: the two branches' sizes; `layers` of this block.
    """

    def __init__(self, branches: tuple[VisionConfig, VisionConfig]) -> None:
        super().__init__()
        pairs = (branches, branches[::-1])
        self.blocks = nn.ModuleList(
            nn.ModuleList(EncoderLayer(b.width, b.heads, b.hidden, b.activation, b.eps) for _ in range(b.layers))
            for b in branches
        )
        self.projs = nn.ModuleList(_project(own.width, other.width, own.eps) for own, other in pairs)
        self.fusion = nn.ModuleList(ClassQuery(other.width, other.heads, other.eps) for _, other in pairs)
        self.revert_projs = nn.ModuleList(_project(other.width, own.width, own.eps) for own, other in pairs)

    def forward(self, small: Tokens, large: Tokens) -> tuple[Tokens, Tokens]:
        """Return both branches' tokens; both exchanges start from the tokens before either."""
        small, large = (self._layers(number, tokens) for number, tokens in enumerate((small, large)))
        return self._visit(0, small, large), self._visit(1, large, small)

    def _layers(self, number: int, tokens: Tokens) -> Tokens:
        rows, bias = tokens.rows, size_bias(tokens.sizes)
        for layer in self.blocks[number]:  # type: ignore[attr-defined]
            rows = layer(rows, bias)
        return Tokens(rows, tokens.sizes)

    def _visit(self, number: int, own: Tokens, other: Tokens) -> Tokens:
        token = self.projs[number](own.rows[:, :1])
        seen = self.fusion[number](token, other.rows[:, 1:], size_bias(other.sizes))
        return Tokens(torch.cat([self.revert_projs[number](seen), own.rows[:, 1:]], dim=1), own.sizes)


def _project(width: int, to: int, eps: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width, eps=eps), nn.GELU(), nn.Linear(width, to))


class Fusion(nn.Module):
    """Both branches' tokens -> class scores.

    Args:
        blocks: the two branches' sizes in every block; the first block's layers belong to the branches, so 0 there.
        classes: how many.
    """

    def __init__(self, blocks: tuple[tuple[VisionConfig, VisionConfig], ...], classes: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Exchange(branches) for branches in blocks)
        self.norm = nn.ModuleList(nn.LayerNorm(branch.width, eps=branch.eps) for branch in blocks[0])
        self.head = nn.ModuleList(nn.Linear(branch.width, classes) for branch in blocks[0])

    def forward(self, small: Tensor, small_sizes: Tensor, large: Tensor, large_sizes: Tensor) -> Tensor:
        """Return class scores, the mean of both branches'.

        Args:
            small: float [batch, 1 + n, small width]
            small_sizes: float [batch, 1 + n]
            large: float [batch, 1 + m, large width]
            large_sizes: float [batch, 1 + m]

        Returns:
            float [batch, classes]
        """
        tokens = Tokens(small, small_sizes), Tokens(large, large_sizes)
        for block in self.blocks:
            tokens = block(*tokens)
        scores = [
            head(norm(branch.rows[:, 0])) for head, norm, branch in zip(self.head, self.norm, tokens, strict=True)
        ]
        mean: Tensor = (scores[0] + scores[1]) / 2
        return mean
