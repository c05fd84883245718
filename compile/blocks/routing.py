"""Routed attention: every region of a picture looks at the few regions that match it best.

Bi-level routing attention of BiFormer (Zhu et al., CVPR 2023, section 3.2). Which regions are looked at is a reduction
of regions to those that stay, done once per asking region: the published rule keeps the highest matches, and any
reducer may take its place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sanderling.compile.blocks.reduce import ARRAYS, choose
from sanderling.compile.blocks.transformer import FeedForward
from sanderling.reduction import Reducer, Reduction, shrink


class FrozenBatchNorm(nn.Module):
    """Batch norm with the mean and variance of training, [batch, width, height, width of the map] -> the same."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled and shifted map."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def to_regions(x: Tensor, side: int) -> Tensor:
    """[batch, height, width, channels] -> [batch, side * side, places in a region, channels], row by row."""
    batch, height, width, channels = x.shape
    split = x.reshape(batch, side, height // side, side, width // side, channels)
    return split.transpose(2, 3).reshape(batch, side * side, -1, channels)


def from_regions(x: Tensor, height: int, width: int, side: int) -> Tensor:
    """The reverse of `to_regions`: back to [batch, height, width, channels]."""
    batch, channels = x.shape[0], x.shape[-1]
    split = x.reshape(batch, side, side, height // side, width // side, channels)
    return split.transpose(2, 3).reshape(batch, height, width, channels)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float, bias: Tensor | None = None) -> Tensor:
    """Return softmax(scale q kT + bias) v, head by head.

    Args:
        q: [sets, n, width]
        k: [sets, m, width]
        v: [sets, m, width]
        heads: how many share the width.
        scale: of the products.
        bias: [sets, 1, 1, m] or None.

    Returns:
        [sets, n, width]
    """
    split = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v)]  # type: ignore[no-untyped-call]
    logits = (split[0] * scale) @ split[1].transpose(-1, -2)
    weights = torch.softmax(logits if bias is None else logits + bias, dim=-1)
    out: Tensor = (weights @ split[2]).transpose(1, 2).flatten(2)
    return out


def _per_place(sizes: Tensor, places: int) -> Tensor:
    """Return `size_bias` of regions for every place in them, [sets, kept] -> [sets, 1, 1, kept * places]."""
    return sizes.log()[..., None].expand(-1, -1, places).flatten(1)[:, None, None]


class MapAttention(nn.Module):
    """Projections of an attention over a map, and a 5 x 5 depthwise convolution that tells neighbours apart."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.lepe = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.out_proj = nn.Linear(width, width)

    def _near(self, x: Tensor) -> Tensor:
        """Return the convolution of a map [batch, height, width, channels]."""
        out: Tensor = self.lepe(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return out


class WholeAttention(MapAttention):
    """Every place looks at every place; the neighbours' convolution is of the input, as the official module has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, height, width, channels] -> the same."""
        rows = x.flatten(1, 2)
        scale = (rows.shape[-1] // self.heads) ** -0.5
        seen = attend(self.q_proj(rows), self.k_proj(rows), self.v_proj(rows), self.heads, scale)
        out: Tensor = self.out_proj(seen.reshape(x.shape) + self._near(x))
        return out


class RoutedAttention(MapAttention):
    """Every place looks at the places of the regions that its own region is routed to.

    Products are scaled by width^-0.5, not by the head's width: the published weights were trained so.

    Args:
        width: channels of the map.
        heads: how many.
        side: regions along one side of the map.
        most: regions to look at in the full model, and most that the lever asks for.
        reducer: the rule for fewer; the highest matches where None.
    """

    def __init__(self, width: int, heads: int, side: int, most: int, reducer: Reducer | None = None) -> None:
        super().__init__(width, heads, bias=True)
        self.side, self.most, self.reducer = side, most, reducer
        self.scale = width**-0.5

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the attended map.

        Args:
            x: [batch, height, width, channels], height and width multiples of `side`.
            keep: regions to look at, int64 scalar; `most` when None.

        Returns:
            [batch, height, width, channels]
        """
        _, height, width, _ = x.shape
        v = self.v_proj(x)
        q, k, regions = (to_regions(y, self.side) for y in (self.q_proj(x), self.k_proj(x), v))
        routed = self.route(q.mean(2), k.mean(2), keep)
        k, v_routed, sizes = self._routed(k, regions, routed)
        bias = None if sizes is None else _per_place(sizes, q.shape[2])
        seen = attend(q.flatten(0, 1), k, v_routed, self.heads, self.scale, bias)
        seen = from_regions(seen.reshape(q.shape), height, width, self.side)
        out: Tensor = self.out_proj(seen + self._near(v))
        return out

    def route(self, asking: Tensor, asked: Tensor, keep: Tensor | None = None) -> Reduction:
        """Return which regions each region looks at.

        Args:
            asking: mean query of every region, [batch, regions, channels].
            asked: mean key of every region, of the same shape.
            keep: as `forward` has it.

        Returns:
            A reduction over [batch * regions] sets of regions.
        """
        count = asked.shape[1]
        matches = ((asking * self.scale) @ asked.transpose(-1, -2)).flatten(0, 1)
        if self.reducer is None or keep is None:
            return Reduction(ARRAYS.top(matches, self.most))
        metric = asked[:, None].expand(-1, count, -1, -1).flatten(0, 1)
        return choose(self.reducer, metric, matches, keep, (self.side, self.side))

    def _routed(self, k: Tensor, v: Tensor, routed: Reduction) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return keys and values that each region looks at, [batch * regions, n, channels], and sizes of its regions.

        Sizes, [batch * regions, kept], are for rules that merge regions, and None for those that drop them.
        """
        batch, count, _, channels = k.shape
        if routed.target is None:
            # Rows of a flat table: gathering from a table expanded to every asking region reads it that many times.
            first = (torch.arange(batch, device=k.device) * count)[:, None].expand(-1, count).flatten()
            rows = (routed.kept + first[:, None]).flatten()
            chosen = [x.flatten(0, 1)[rows].reshape(batch * count, -1, channels) for x in (k, v)]
            return chosen[0], chosen[1], None
        both = torch.cat([k, v], dim=-1).flatten(2)  # [batch, regions, places * 2 channels]
        table = both[:, None].expand(-1, count, -1, -1).flatten(0, 1)
        rows, sizes = shrink(ARRAYS, routed, table, torch.ones_like(table[..., 0]))
        merged = rows.reshape(batch * count, -1, 2 * channels)
        return merged[..., :channels], merged[..., channels:], sizes


class RoutedLayer(nn.Module):
    """A depthwise convolution, attention over the map and feed-forward, each added to what it is given.

    Args:
        width: channels of the map.
        attention: `RoutedAttention` or `WholeAttention`.
        hidden: channels inside the feed-forward.
        eps: of the norms.
    """

    def __init__(self, width: int, attention: MapAttention, hidden: int, eps: float) -> None:
        super().__init__()
        self.pos_embed = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, hidden, "gelu")

    def forward(self, x: Tensor, *keep: Tensor) -> Tensor:
        """[batch, channels, height, width] -> the same; `keep` is the number of regions to look at, where it varies."""
        x = (x + self.pos_embed(x)).permute(0, 2, 3, 1)
        x = x + self.attn(self.norm1(x), *keep)
        out: Tensor = (x + self.mlp(self.norm2(x))).permute(0, 3, 1, 2)
        return out
