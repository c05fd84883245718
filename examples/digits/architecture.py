"""The one small file that brings this model into Sanderling: its parts, how they connect, and where tokens can go.

    DIGITS_DATA=FOLDER sanderling compile examples/digits/architecture.py -o digits.sand \
        --data examples.digits.data:evaluation --recipe examples/digits/quick.yaml
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from examples.digits.model import AUDIO, HEADS, LAYERS, MEAN, STD, VISION, WIDTH, DigitModel
from examples.digits.pairs import CANVAS, DIGITS
from examples.digits.sound import FRAMES, MELS
from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.spec import ArrayInput, Component, ImageInput, Lever, ModelSpec, Site, TensorSpec

WEIGHTS = Path(__file__).parent / "weights" / "weights.safetensors"

_PIXELS = TensorSpec("pixel_values", "float32", ("batch", 1, CANVAS, CANVAS))
_LOG_MEL = TensorSpec("log_mel", "float32", ("batch", FRAMES, MELS))
_IMAGE_TOKENS = TensorSpec("image_tokens", "float32", ("batch", "patches", WIDTH))
_IMAGE_SIZES = TensorSpec("image_sizes", "float32", ("batch", "patches"))
_IMAGE_KEPT = TensorSpec("image_kept", "int64", ("batch", "patches"))
_AUDIO_TOKENS = TensorSpec("audio_tokens", "float32", ("batch", "moments", WIDTH))
_AUDIO_SIZES = TensorSpec("audio_sizes", "float32", ("batch", "moments"))
_AUDIO_KEPT = TensorSpec("audio_kept", "int64", ("batch", "moments"))

SPEC = ModelSpec(
    name="digits",
    inputs=(
        ImageInput(
            name="image", tensor="pixel_values", height=CANVAS, width=CANVAS, resize="none", shortest=0,
            resample="bilinear", scale=1.0, mean=(MEAN,), std=(STD,),
        ),
        ArrayInput("log_mel", "float32", ("batch", FRAMES, MELS)),
    ),
    components=(
        Component("vision", (_PIXELS,), (_IMAGE_TOKENS, _IMAGE_SIZES, _IMAGE_KEPT)),
        Component("audio", (_LOG_MEL,), (_AUDIO_TOKENS, _AUDIO_SIZES, _AUDIO_KEPT)),
        Component(
            "fusion",
            (_IMAGE_TOKENS, _IMAGE_SIZES, _AUDIO_TOKENS, _AUDIO_SIZES),
            (TensorSpec("digit_scores", "float32", ("batch", DIGITS)),),
        ),
    ),
    levers=(
        Lever("tokens.image", "tokens", 1, VISION.tokens, VISION.tokens),
        Lever("tokens.audio", "tokens", 1, AUDIO.tokens, AUDIO.tokens),
    ),
    # By layer, both modalities in turn: the two preferred sites are the two inputs.
    sites=tuple(
        Site(component, f"tokens.{modality}", "input" if layer == 0 else "inner", layer, report=f"{modality}_kept")
        for layer in range(LAYERS)
        for component, modality in (("vision", "image"), ("audio", "audio"))
    ),
    outputs=("digit_scores", "image_kept", "audio_kept"),
)  # fmt: skip


def adapt() -> Adapted:
    """Return the trained model, split. `DIGITS_WEIGHTS` names other weights than the committed ones."""
    path = Path(os.environ.get("DIGITS_WEIGHTS", WEIGHTS))
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}

    def build(part: str, reduce_at: ReduceAt | None) -> nn.Module:
        model = DigitModel(reduce_at, reduce_at)
        model.load_state_dict(weights)
        module: nn.Module = model.get_submodule(part).eval()
        return module

    # Not zeros: a uniform input counts as none, and its tokens would not show what an engine computes.
    made = torch.Generator().manual_seed(0)
    pixels, frames = (torch.randn(2, *shape, generator=made) for shape in ((1, CANVAS, CANVAS), (FRAMES, MELS)))
    patches, moments = (torch.randn(2, count, WIDTH, generator=made) for count in (VISION.tokens, AUDIO.tokens))
    return Adapted(
        spec=SPEC,
        parts=(
            Part("vision", lambda at: build("vision", at), (pixels,), bound=2e-4, probe=(HEADS,)),
            Part("audio", lambda at: build("audio", at), (frames,), bound=2e-4, probe=(HEADS,)),
            Part(
                "fusion",
                lambda at: build("fusion", at),
                (patches, torch.ones(2, VISION.tokens), moments, torch.ones(2, AUDIO.tokens)),
            ),
        ),
        source=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
