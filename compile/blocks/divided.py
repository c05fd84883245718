"""Divided space-time attention (Bertasius et al., Is Space-Time Attention All You Need, section 3), frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sanderling.compile.blocks.attention import Attention, AttentionTrace, size_bias
from sanderling.compile.blocks.pooling import mean_rows
from sanderling.compile.blocks.reduce import ReduceAt, TokenSet, all_tokens, choose, reduce_tokens
from sanderling.compile.blocks.transformer import FeedForward
from sanderling.compile.blocks.video import VideoConfig
from sanderling.compile.blocks.vision import contrast, patchify


class DividedLayer(nn.Module):
    """Attention over time at every place, attention over space in every frame, feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, activation: str, eps: float) -> None:
        super().__init__()
        self.layer_norm_time = nn.LayerNorm(width, eps=eps)
        self.time_attn = Attention(width, heads)
        self.time_dense = nn.Linear(width, width)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.self_attn = Attention(width, heads)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, hidden, activation)

    def forward(self, first: Tensor, patches: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the class token and the patches after the layer.

        Args:
            first: class token, [batch, width]
            patches: [batch, frames, places, width]
            sizes: frames that each frame stands for, [batch, frames]; None where none were merged.
        """
        attended = self.time_attn(self._over_time(patches), bias=_bias(sizes, patches))
        return self._in_frames(first, patches + self._to_frames(attended, patches), sizes)

    def traced(self, first: Tensor, patches: Tensor) -> tuple[Tensor, Tensor, AttentionTrace]:
        """Return the same, and what attention over time saw of each frame, mean over places."""
        attended, trace = self.time_attn.traced(self._over_time(patches))
        first, after = self._in_frames(first, patches + self._to_frames(attended, patches), None)
        batch, places = patches.shape[0], patches.shape[2]
        received, keys = (seen.reshape(batch, places, *seen.shape[1:]).mean(1) for seen in (trace.received, trace.keys))
        return first, after, AttentionTrace(received, keys)

    def _over_time(self, patches: Tensor) -> Tensor:
        """[batch, frames, places, width] -> normalised [batch * places, frames, width]."""
        rows: Tensor = self.layer_norm_time(patches.transpose(1, 2).flatten(0, 1))
        return rows

    def _to_frames(self, attended: Tensor, patches: Tensor) -> Tensor:
        """[batch * places, frames, width] -> [batch, frames, places, width]."""
        batch, frames, places, width = patches.shape
        out: Tensor = self.time_dense(attended).reshape(batch, places, frames, width).transpose(1, 2)
        return out

    def _in_frames(self, first: Tensor, patches: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        batch, frames, places, width = patches.shape
        everywhere = first[:, None, None].expand(-1, frames, 1, -1)
        rows = torch.cat([everywhere, patches], dim=2).flatten(0, 1)
        attended = self.self_attn(self.layer_norm1(rows)).reshape(batch, frames, 1 + places, width)
        # Every frame has its own answer for the class token; a merged frame counts as the frames it stands for.
        first = first + mean_rows(attended[:, :, 0], sizes)
        patches = patches + attended[:, :, 1:]
        joined = torch.cat([first[:, None], patches.flatten(1, 2)], dim=1)
        joined = joined + self.mlp(self.layer_norm2(joined))
        return joined[:, 0], joined[:, 1:].reshape(batch, frames, places, width)


class DividedEncoder(nn.Module):
    """Frames -> layers of divided attention -> normalised class token; whole frames are reduced at one site when asked.

    Single patches cannot be left out, because every place has to have every frame.
    """

    def __init__(self, config: VideoConfig, reduce_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.config = config
        self.reduce_at = reduce_at
        width, places = config.width, config.side**2
        self.prefix = 1
        self.patch_embedding = nn.Linear(config.patch_values, width)
        self.class_embedding = nn.Parameter(torch.randn(width) * 0.02)
        self.position_embedding = nn.Parameter(torch.randn(1 + places, width) * 0.02)
        self.time_embedding = nn.Parameter(torch.randn(config.frames, width) * 0.02)
        self.layers = nn.ModuleList(
            DividedLayer(width, config.heads, config.hidden, config.activation, config.eps)
            for _ in range(config.layers)
        )
        self.post_layernorm = nn.LayerNorm(width, eps=config.eps)

    def forward(self, pixels: Tensor, keep: Tensor | None = None) -> TokenSet:
        """Return the class token as the only row, with the sizes and original places of the frames that are left.

        Args:
            pixels: [batch, frames, channels, image_size, image_size]
            keep: frames to keep, int64 scalar; needed when the encoder was built with `reduce_at`.

        Returns:
            Rows [batch, 1, width]; sizes and places [batch, 1 + keep], where the class token has size 1 and place -1.
        """
        frames = self._embed(pixels, keep)
        first = (self.class_embedding + self.position_embedding[0]).expand(pixels.shape[0], -1)
        for number, layer in enumerate(self.layers, start=1):
            first, frames = self._layer(number, layer, first, frames, keep)
        one = torch.ones_like(frames.sizes[:, :1])
        kept = torch.cat([one.to(torch.int64).neg(), frames.kept], dim=1)
        return TokenSet(self.post_layernorm(first)[:, None], torch.cat([one, frames.sizes], dim=1), kept)

    def _embed(self, pixels: Tensor, keep: Tensor | None) -> TokenSet:
        """Return the frames with their places side by side, rows [batch, frames, places * width]."""
        batch, frames = pixels.shape[:2]
        rows = patchify(pixels.flatten(0, 1), self.config.patch_size).reshape(batch, frames, -1)
        moments = all_tokens(self.time_embedding.expand(batch, -1, -1))
        left = all_tokens(rows)
        if self.reduce_at is not None and self.reduce_at.layer == 0 and keep is not None:
            reduction = choose(self.reduce_at.reducer, rows, contrast(rows), keep, (1, self.config.frames))
            left, moments = reduce_tokens(left, reduction), reduce_tokens(moments, reduction)
        patches = self.patch_embedding(self._places(left.rows)) + self.position_embedding[1:]
        return TokenSet((patches + moments.rows[:, :, None]).flatten(2), left.sizes, left.kept)

    def _places(self, rows: Tensor) -> Tensor:
        """[batch, frames, places * values] -> [batch, frames, places, values]."""
        return rows.reshape(rows.shape[0], rows.shape[1], self.config.side**2, -1)

    def _layer(
        self, number: int, layer: nn.Module, first: Tensor, frames: TokenSet, keep: Tensor | None
    ) -> tuple[Tensor, TokenSet]:
        assert isinstance(layer, DividedLayer)
        at, patches = self.reduce_at, self._places(frames.rows)
        if at is None or keep is None or number != at.layer:
            merged = at is not None and at.reducer.merges and number > at.layer
            first, patches = layer(first, patches, frames.sizes if merged else None)
            return first, TokenSet(patches.flatten(2), frames.sizes, frames.kept)
        first, patches, trace = layer.traced(first, patches)
        reduction = choose(at.reducer, trace.keys, trace.received, keep, (1, self.config.frames))
        return first, reduce_tokens(TokenSet(patches.flatten(2), frames.sizes, frames.kept), reduction)


def _bias(sizes: Tensor | None, patches: Tensor) -> Tensor | None:
    """Return the logit bias of frames [batch, frames] at every place, [batch * places, 1, 1, frames]."""
    if sizes is None:
        return None
    return size_bias(sizes[:, None].expand(-1, patches.shape[2], -1).flatten(0, 1))
