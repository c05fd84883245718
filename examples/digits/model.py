"""The digit recognizer: a vision encoder, an audio encoder and a fusion that scores the ten digits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.digits.pairs import CANVAS, DIGITS
from examples.digits.sound import FRAMES, MELS
from examples.scene_qa.model import grid_waves, waves
from sanderling.compile.blocks.attention import size_bias
from sanderling.compile.blocks.reduce import ReduceAt, TokenSet
from sanderling.compile.blocks.sequence import SequenceConfig, SequenceEncoder, group_frames
from sanderling.compile.blocks.transformer import CrossLayer
from sanderling.compile.blocks.vision import VisionConfig, VisionEncoder, contrast

WIDTH = 96
HEADS = 4
LAYERS = 4
FRAMES_PER_TOKEN = 2
VISION = VisionConfig(
    image_size=CANVAS, patch_size=4, channels=1, overlap=True, width=WIDTH, layers=LAYERS, heads=HEADS, hidden=4 * WIDTH
)
AUDIO = SequenceConfig(
    tokens=FRAMES // FRAMES_PER_TOKEN,
    values=FRAMES_PER_TOKEN * MELS,
    width=WIDTH,
    layers=LAYERS,
    heads=HEADS,
    hidden=4 * WIDTH,
)
QUERIES = 4
MEAN, STD = 58.0, 50.0
"""Pixel values are (value - MEAN) / STD."""


class DigitVision(nn.Module):
    """Picture -> image tokens; a picture without any contrast counts as none."""

    def __init__(self, reduce_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.encoder = VisionEncoder(VISION, reduce_at)
        self.encoder.position_embedding.data = grid_waves(VISION.side, WIDTH)
        self.absent = nn.Parameter(torch.randn(WIDTH) * 0.02)

    def forward(self, pixel_values: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens, how many patches each stands for, and which patch each was.

        Args:
            pixel_values: float [batch, 1, 36, 36], normalised.
            keep: image tokens to keep, int64 scalar.

        Returns:
            [batch, keep, 96], float [batch, keep], int64 [batch, keep]
        """
        tokens: TokenSet = self.encoder(pixel_values, keep)
        return or_absent(tokens.rows, pixel_values, self.absent), tokens.sizes, tokens.kept


class DigitAudio(nn.Module):
    """Log-mel frames -> audio tokens; frames that are all the same count as none."""

    def __init__(self, reduce_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.encoder = SequenceEncoder(AUDIO, reduce_at)
        self.encoder.position_embedding.data = waves(AUDIO.tokens, WIDTH)
        self.absent = nn.Parameter(torch.randn(WIDTH) * 0.02)

    def forward(self, log_mel: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens, how many pairs of frames each stands for, and which pair each was.

        Args:
            log_mel: float [batch, 128, 40], as `sound.log_mel` makes it.
            keep: audio tokens to keep, int64 scalar.

        Returns:
            [batch, keep, 96], float [batch, keep], int64 [batch, keep]
        """
        tokens: TokenSet = self.encoder(group_frames(log_mel, FRAMES_PER_TOKEN), keep)
        return or_absent(tokens.rows, log_mel, self.absent), tokens.sizes, tokens.kept


class DigitFusion(nn.Module):
    """A few learned queries that look at image and audio tokens together -> scores of the digits."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(QUERIES, WIDTH) * 0.02)
        self.modalities = nn.Parameter(torch.randn(2, WIDTH) * 0.02)
        self.layers = nn.ModuleList(CrossLayer(WIDTH, HEADS, 4 * WIDTH, WIDTH) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, DIGITS)

    def forward(self, image_tokens: Tensor, image_sizes: Tensor, audio_tokens: Tensor, audio_sizes: Tensor) -> Tensor:
        """Return the scores of the digits.

        Args:
            image_tokens: [batch, m, 96]
            image_sizes: patches each image token stands for, [batch, m].
            audio_tokens: [batch, n, 96]
            audio_sizes: pairs of frames each audio token stands for, [batch, n].

        Returns:
            [batch, 10]
        """
        context = torch.cat([image_tokens + self.modalities[0], audio_tokens + self.modalities[1]], dim=1)
        bias = size_bias(torch.cat([image_sizes, audio_sizes], dim=1))
        rows = self.queries.expand(image_tokens.shape[0], -1, -1)
        for layer in self.layers:
            rows = layer(rows, context, None, bias)
        out: Tensor = self.head(self.norm(rows.mean(1)))
        return out


class DigitModel(nn.Module):
    """The three parts together, as they are trained."""

    def __init__(self, image_at: ReduceAt | None = None, audio_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.vision = DigitVision(image_at)
        self.audio = DigitAudio(audio_at)
        self.fusion = DigitFusion()

    def forward(self, pixel_values: Tensor, log_mel: Tensor) -> Tensor:
        """Return the scores of the digits at full tokens, [batch, 10]."""
        image_tokens, image_sizes, _ = self.vision(pixel_values)
        audio_tokens, audio_sizes, _ = self.audio(log_mel)
        scores: Tensor = self.fusion(image_tokens, image_sizes, audio_tokens, audio_sizes)
        return scores


def or_absent(rows: Tensor, given: Tensor, absent: Tensor) -> Tensor:
    """Return the rows [batch, n, width], or the learned row `absent` [width] where the input was uniform.

    A uniform input stands for none: noise and speech never are, so no flag has to travel beside the inputs.
    """
    there = contrast(given.flatten(1)) > 1e-3
    return torch.where(there[:, None, None], rows, absent)
