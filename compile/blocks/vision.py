"""A vision transformer with places where its tokens can be reduced."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sanderling.compile.blocks.attention import AttentionTrace, size_bias
from sanderling.compile.blocks.reduce import ReduceAt, TokenSet, all_tokens, choose, reduce_tokens
from sanderling.compile.blocks.transformer import EncoderLayer
from sanderling.scores import changed


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of a vision transformer; widths in channels, `image_size` and `patch_size` in pixels.

    With `overlap` a patch also sees half a patch of its neighbours on every side, as in T2T-ViT's soft split (Yuan et
    al. 2021, section 3.1), so small shapes that straddle patches are easier to recognise.
    """

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    hidden: int
    activation: str = "gelu"
    eps: float = 1e-5
    channels: int = 3
    class_token: bool = False
    pre_norm: bool = False
    patch_bias: bool = True
    overlap: bool = False
    post_norm: bool = True

    @property
    def side(self) -> int:
        """Patches along one side of the picture."""
        return self.image_size // self.patch_size

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the patches, as reducers see them."""
        return self.side, self.side

    @property
    def tokens(self) -> int:
        """Image tokens of a whole picture, without the class token."""
        return self.grid[0] * self.grid[1]

    @property
    def patch_values(self) -> int:
        """Numbers that one patch is made of."""
        return self.channels * self.patch_size**2 * (4 if self.overlap else 1)


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """Return the patches as rows, channels first inside each.

    A linear layer on these rows equals a convolution with stride `patch`, and rows can be left out before it. Like
    the convolution it leaves out pixels at the right and bottom edge that fill no whole patch.

    Args:
        pixels: [batch, channels, height, width]
        patch: side of a patch in pixels.

    Returns:
        [batch, height // patch * width // patch, channels * patch * patch]
    """
    batch, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    if height % patch or width % patch:
        pixels = pixels[:, :, : rows * patch, : columns * patch]
    split = pixels.reshape(batch, channels, rows, patch, columns, patch)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)


def overlapping_patches(pixels: Tensor, patch: int) -> Tensor:
    """Return patches with half a patch of their neighbours on every side as rows; zeros beyond the edges.

    A row is four blocks of patch x patch pixels, from the top left to the bottom right, channels first inside each:
    whole blocks are copied, which is several times faster in an engine than gathering windows. A linear layer on these
    rows equals a convolution with stride `patch`, kernel `2 * patch` and padding `patch / 2`, weights in that order.

    Args:
        pixels: [batch, channels, height, width], height and width multiples of `patch`.
        patch: distance between patches in pixels, even.

    Returns:
        [batch, height / patch * width / patch, 4 * channels * patch * patch]
    """
    rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
    padded = functional.pad(pixels, (patch // 2,) * 4)
    blocks = patchify(padded, patch).unflatten(1, (rows + 1, columns + 1))  # type: ignore[no-untyped-call]
    corners = [blocks[:, y : y + rows, x : x + columns] for y in (0, 1) for x in (0, 1)]
    return torch.cat(corners, dim=-1).flatten(1, 2)


def contrast(patches: Tensor) -> Tensor:
    """Return the standard deviation of each patch's pixels, [batch, n, pixels] -> [batch, n]."""
    centred = patches - patches.mean(-1, keepdim=True)
    return (centred * centred).mean(-1).sqrt()


class VisionEncoder(nn.Module):
    """Patches -> transformer layers -> normalised tokens, reduced at one site when asked.

    The class token, where there is one, is never reduced and does not count towards `keep`.
    """

    def __init__(self, config: VisionConfig, reduce_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.config = config
        self.reduce_at = reduce_at
        width = config.width
        self.patch_embedding = nn.Linear(config.patch_values, width, bias=config.patch_bias)
        self.prefix = 1 if config.class_token else 0
        self.position_embedding = nn.Parameter(torch.randn(self.prefix + config.tokens, width) * 0.02)
        self.class_embedding = nn.Parameter(torch.randn(width) * 0.02) if config.class_token else None
        self.pre_layernorm = nn.LayerNorm(width, eps=config.eps) if config.pre_norm else nn.Identity()
        self.layers = nn.ModuleList(
            EncoderLayer(width, config.heads, config.hidden, config.activation, config.eps)
            for _ in range(config.layers)
        )
        self.post_layernorm: nn.Module = nn.LayerNorm(width, eps=config.eps) if config.post_norm else nn.Identity()

    def forward(
        self,
        pixels: Tensor,
        keep: Tensor | None = None,
        relevance: Tensor | None = None,
        previous: Tensor | None = None,
    ) -> TokenSet:
        """Return the encoded tokens.

        Args:
            pixels: [batch, channels, image_size, image_size]
            keep: image tokens to keep, int64 scalar; needed when the encoder was built with `reduce_at`.
            relevance: how much each image token matters to the text, [batch, tokens]; for reducers that need it.
            previous: the frame before, like `pixels`, zeros for the first one. At the input site, how much a patch
                changed since then is its saliency, in place of its contrast.

        Returns:
            Rows [batch, prefix + keep, width]; sizes and original places of the same length, where the
            class token has size 1 and place -1.

        Raises:
            ValueError: a previous frame where tokens are reduced at an inner site, whose saliency is attention.
        """
        at = self.reduce_at
        if previous is not None and at is not None and at.layer != 0:
            raise ValueError(f"a previous frame says what changed at the input, but tokens are reduced at {at.label}")
        patches = self._patches(pixels)
        saliency = contrast(patches) if previous is None else changed(patches, self._patches(previous))
        tokens = self._with_prefix(self._embed(patches, saliency, keep, relevance))
        for number, layer in enumerate(self.layers, start=1):
            tokens = self._layer(number, layer, tokens, keep, relevance)
        return TokenSet(self.post_layernorm(tokens.rows), tokens.sizes, tokens.kept)

    def _patches(self, pixels: Tensor) -> Tensor:
        if self.config.overlap:
            return overlapping_patches(pixels, self.config.patch_size)
        return patchify(pixels, self.config.patch_size)

    def _embed(self, patches: Tensor, saliency: Tensor, keep: Tensor | None, relevance: Tensor | None) -> TokenSet:
        positions = self.position_embedding[self.prefix :].expand(patches.shape[0], -1, -1)
        if self.reduce_at is None or self.reduce_at.layer != 0 or keep is None:
            return all_tokens(self.patch_embedding(patches) + positions)
        reduction = choose(self.reduce_at.reducer, patches, saliency, keep, self.config.grid, relevance)
        left, places = (reduce_tokens(all_tokens(rows), reduction) for rows in (patches, positions))
        return TokenSet(self.patch_embedding(left.rows) + places.rows, left.sizes, left.kept)

    def _with_prefix(self, tokens: TokenSet) -> TokenSet:
        if self.class_embedding is None:
            return TokenSet(self.pre_layernorm(tokens.rows), tokens.sizes, tokens.kept)
        first = (self.class_embedding + self.position_embedding[0]).expand(tokens.rows.shape[0], 1, -1)
        rows = torch.cat([first, tokens.rows], dim=1)
        one = torch.ones_like(tokens.sizes[:, :1])
        kept = torch.cat([one.to(torch.int64).neg(), tokens.kept], dim=1)
        return TokenSet(self.pre_layernorm(rows), torch.cat([one, tokens.sizes], dim=1), kept)

    def _layer(
        self, number: int, layer: nn.Module, tokens: TokenSet, keep: Tensor | None, relevance: Tensor | None
    ) -> TokenSet:
        if not isinstance(layer, EncoderLayer):
            raise TypeError(f"layer {number} is {type(layer).__name__}, expected EncoderLayer")
        at = self.reduce_at
        bias = size_bias(tokens.sizes) if at is not None and at.reducer.merges and number > at.layer else None
        if at is None or keep is None or number != at.layer:
            return TokenSet(layer(tokens.rows, bias), tokens.sizes, tokens.kept)
        rows, trace = layer.traced(tokens.rows, bias)
        return self._reduce(TokenSet(rows, tokens.sizes, tokens.kept), trace, at, keep, relevance)

    def _reduce(
        self, tokens: TokenSet, trace: AttentionTrace, at: ReduceAt, keep: Tensor, relevance: Tensor | None
    ) -> TokenSet:
        """Reduce the image tokens behind the prefix; the prefix stays in front."""
        p = self.prefix
        reduction = choose(at.reducer, trace.keys[:, p:], trace.received[:, p:], keep, self.config.grid, relevance)
        image = TokenSet(tokens.rows[:, p:], tokens.sizes[:, p:], tokens.kept[:, p:])
        left = reduce_tokens(image, reduction)
        if p == 0:
            return left
        return TokenSet(
            torch.cat([tokens.rows[:, :p], left.rows], dim=1),
            torch.cat([tokens.sizes[:, :p], left.sizes], dim=1),
            torch.cat([tokens.kept[:, :p], left.kept], dim=1),
        )
