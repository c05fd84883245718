"""A video as tubes of pixels, and the vision transformer over them with joint space-time attention."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from sanderling.compile.blocks.positions import sinusoids
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.vision import VisionConfig, VisionEncoder


@dataclass(frozen=True)
class VideoConfig(VisionConfig):
    """Sizes of a video transformer; a token is a tube: `tube` frames of one patch.

    Attributes:
        frames: in a clip.
        tube: frames that one token is made of.
        fixed_positions: sines and cosines, in place of a learned table.
        post_norm: whether the last layer's tokens are normalised.
    """

    frames: int = 1
    tube: int = 1
    fixed_positions: bool = False
    post_norm: bool = True

    @property
    def steps(self) -> int:
        """Tubes along the time of a clip; frames at the end that fill no tube are left out."""
        return self.frames // self.tube

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the tubes: the steps of time stand under each other."""
        return self.steps * self.side, self.side

    @property
    def patch_values(self) -> int:
        """Numbers that one tube is made of."""
        return self.tube * super().patch_values


def tubes(pixels: Tensor, tube: int, patch: int) -> Tensor:
    """Return tubes of pixels as rows, channels first inside each.

    A linear layer on these rows equals a 3-D convolution with stride and kernel (tube, patch, patch). Like the
    convolution it leaves out frames and pixels at the end that fill no whole tube.

    Args:
        pixels: [batch, frames, channels, height, width]
        tube: frames of a tube.
        patch: side of a tube in pixels.

    Returns:
        [batch, frames // tube * height // patch * width // patch, channels * tube * patch * patch]
    """
    batch, frames, channels, height, width = pixels.shape
    steps, rows, columns = frames // tube, height // patch, width // patch
    whole = pixels[:, : steps * tube, :, : rows * patch, : columns * patch]
    split = whole.reshape(batch, steps, tube, channels, rows, patch, columns, patch)
    return split.permute(0, 1, 4, 6, 3, 2, 5, 7).reshape(batch, steps * rows * columns, -1)


class VideoEncoder(VisionEncoder):
    """Tubes -> transformer layers in which every tube attends to every other, reduced at one site when asked.

    Takes pixels [batch, frames, channels, image_size, image_size]. A tube's saliency at the input is the standard
    deviation of its pixels, over its frames too, so what moves counts as contrast.
    """

    def __init__(self, config: VideoConfig, reduce_at: ReduceAt | None = None) -> None:
        super().__init__(config, reduce_at)
        self.tube = config.tube
        if config.fixed_positions:
            del self.position_embedding
            table = sinusoids(self.prefix + config.tokens, config.width)
            self.register_buffer("position_embedding", table, persistent=False)
        if not config.post_norm:
            self.post_layernorm = nn.Identity()

    def _patches(self, pixels: Tensor) -> Tensor:
        return tubes(pixels, self.tube, self.config.patch_size)
