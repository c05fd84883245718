"""The scene question answerer: a vision encoder, a text encoder and a fusion that scores the answers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from examples.scene_qa.questions import ANSWERS, MAX_WORDS, WORDS
from examples.scene_qa.scenes import IMAGE_SIZE
from sanderling.compile.blocks.attention import size_bias
from sanderling.compile.blocks.reduce import ReduceAt, TokenSet
from sanderling.compile.blocks.transformer import CrossLayer, EncoderLayer
from sanderling.compile.blocks.vision import VisionConfig, VisionEncoder

WIDTH = 128
HEADS = 4
LAYERS = (6, 2, 2)
"""Layers of the vision encoder, the text encoder and the fusion; a student may have fewer."""
VISION = VisionConfig(
    image_size=IMAGE_SIZE, patch_size=8, overlap=True, width=WIDTH, layers=LAYERS[0], heads=HEADS, hidden=4 * WIDTH
)
PAD_ID = 0
MEAN, STD = 127.5, 73.0
"""Pixel values are (value - MEAN) / STD."""


class SceneVision(nn.Module):
    """Picture -> image tokens."""

    def __init__(self, reduce_at: ReduceAt | None = None, layers: int = LAYERS[0]) -> None:
        super().__init__()
        self.encoder = VisionEncoder(replace(VISION, layers=layers), reduce_at)
        self.encoder.position_embedding.data = grid_waves(VISION.side, WIDTH)
        # Once more behind the encoder: six layers of content leave too little of a token's place to answer "where".
        self.place_embedding = nn.Parameter(2 * grid_waves(VISION.side, WIDTH))

    def forward(self, pixel_values: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens, how many patches each stands for, and which patch each was.

        Args:
            pixel_values: float [batch, 3, 96, 96], normalised.
            keep: image tokens to keep, int64 scalar.

        Returns:
            [batch, keep, 128], float [batch, keep], int64 [batch, keep]
        """
        tokens: TokenSet = self.encoder(pixel_values, keep)
        return tokens.rows + self.place_embedding[tokens.kept], tokens.sizes, tokens.kept


def waves(places: int, width: int) -> Tensor:
    """Return sines and cosines of a place at falling frequencies, [places, width], to start a position table from.

    A table that starts near zero stays drowned by pictures and words, and "where" is then never learned: after 1,900
    steps no linear read-out found a token's place. Waves as loud as the patches carry it from the first step.
    """
    octaves = 10 ** torch.linspace(0, -1.5, width // 2)
    angles = torch.arange(places)[:, None] * octaves
    return 0.6 * torch.cat([angles.sin(), angles.cos()], dim=1)


def grid_waves(side: int, width: int) -> Tensor:
    """Return the waves of both coordinates, half the channels each, [side * side, width]."""
    one = waves(side, width // 2)
    rows, columns = one[:, None, :].expand(side, side, -1), one[None, :, :].expand(side, side, -1)
    return torch.cat([rows, columns], dim=-1).reshape(side * side, width)


class SceneText(nn.Module):
    """Word ids -> text tokens."""

    def __init__(self, layers: int = LAYERS[1]) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(len(WORDS), WIDTH)
        self.position_embedding = nn.Parameter(waves(MAX_WORDS, WIDTH))
        self.layers = nn.ModuleList(EncoderLayer(WIDTH, HEADS, 4 * WIDTH) for _ in range(layers))

    def forward(self, input_ids: Tensor) -> Tensor:
        """int64 [batch, words] -> [batch, words, 128]; padding is never attended to."""
        bias = padding_bias(input_ids)
        rows = self.token_embedding(input_ids) + self.position_embedding[: input_ids.shape[1]]
        for layer in self.layers:
            rows = layer(rows, bias)
        out: Tensor = rows
        return out


class SceneFusion(nn.Module):
    """Text tokens that look at image tokens -> scores of the answers."""

    def __init__(self, layers: int = LAYERS[2]) -> None:
        super().__init__()
        # Attention is an average, and an average cannot count: one token that is always there gives it a unit to count
        # against, however many image tokens are left.
        self.unit = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.layers = nn.ModuleList(CrossLayer(WIDTH, HEADS, 4 * WIDTH, WIDTH) for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, len(ANSWERS))

    def forward(self, text_tokens: Tensor, input_ids: Tensor, image_tokens: Tensor, image_sizes: Tensor) -> Tensor:
        """Return the scores of the answers.

        Args:
            text_tokens: [batch, words, 128]
            input_ids: int64 [batch, words], for the padding.
            image_tokens: [batch, keep, 128]
            image_sizes: patches each image token stands for, [batch, keep].

        Returns:
            [batch, answers]
        """
        bias, (context, context_bias) = padding_bias(input_ids), self._context(image_tokens, image_sizes)
        rows = text_tokens
        for layer in self.layers:
            rows = layer(rows, context, bias, context_bias)
        out: Tensor = self.head(self.norm(rows[:, 0]))
        return out

    def ask_many(self, text_tokens: Tensor, input_ids: Tensor, image_tokens: Tensor, image_sizes: Tensor) -> Tensor:
        """Return what `head` scores, for several questions about each picture; a picture's keys are computed once.

        Args:
            text_tokens: [pictures * questions, words, 128]
            input_ids: int64 [pictures * questions, words]
            image_tokens: [pictures, keep, 128]
            image_sizes: [pictures, keep]

        Returns:
            [pictures * questions, 128]
        """
        bias, (context, context_bias) = padding_bias(input_ids), self._context(image_tokens, image_sizes)
        pictures, rows = image_tokens.shape[0], text_tokens
        for layer in self.layers:
            assert isinstance(layer, CrossLayer)
            rows = rows + layer.self_attn(layer.layer_norm1(rows), bias=bias)
            queries = layer.layer_norm_cross(rows).reshape(pictures, -1, WIDTH)
            rows = rows + layer.cross_attn(queries, context, context_bias).reshape(rows.shape)
            rows = rows + layer.mlp(layer.layer_norm2(rows))
        out: Tensor = self.norm(rows[:, 0])
        return out

    def _context(self, image_tokens: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the image tokens with the unit in front, [batch, 1 + keep, 128], and their logit bias."""
        unit = self.unit.expand(image_tokens.shape[0], -1, -1)
        sizes = torch.cat([torch.ones_like(image_sizes[:, :1]), image_sizes], dim=1)
        return torch.cat([unit, image_tokens], dim=1), size_bias(sizes)


class SceneModel(nn.Module):
    """The three parts together, as they are trained."""

    def __init__(self, reduce_at: ReduceAt | None = None, layers: tuple[int, int, int] = LAYERS) -> None:
        super().__init__()
        self.vision = SceneVision(reduce_at, layers[0])
        self.text = SceneText(layers[1])
        self.fusion = SceneFusion(layers[2])

    def forward(self, pixel_values: Tensor, input_ids: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the scores of the answers, [batch, answers], for pictures and questions in pairs."""
        image_tokens, sizes, _ = self.vision(pixel_values, keep)
        scores: Tensor = self.fusion(self.text(input_ids), input_ids, image_tokens, sizes)
        return scores


def padding_bias(input_ids: Tensor) -> Tensor:
    """int64 [batch, words] -> float [batch, 1, 1, words]: 0 where there is a word, -10000 at padding."""
    return (input_ids == PAD_ID).to(torch.float32)[:, None, None, :] * -1e4
