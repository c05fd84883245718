"""Tiny Hugging Face video models with weights large enough that attention, norms and biases all show in the output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dual_encoders import enlarged
from transformers import (
    TimesformerConfig,
    TimesformerForVideoClassification,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEModel,
    VivitConfig,
    VivitForVideoClassification,
    VivitModel,
)

SIDE = 16
FRAMES = {"videomae": 8, "vivit": 8, "timesformer": 6}
FAMILIES = tuple(FRAMES)
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "num_labels": 5,
}
OWN: dict[str, dict[str, Any]] = {
    "videomae": {"patch_size": 8, "tubelet_size": 2},
    "vivit": {"tubelet_size": [2, 8, 8]},
    "timesformer": {"patch_size": 8},
}
CONFIGS: dict[str, Callable[..., Any]] = {
    "videomae": VideoMAEConfig,
    "vivit": VivitConfig,
    "timesformer": TimesformerConfig,
}
CLASSIFIERS: dict[str, Callable[..., Any]] = {
    "videomae": VideoMAEForVideoClassification,
    "vivit": VivitForVideoClassification,
    "timesformer": TimesformerForVideoClassification,
}
ENCODERS: dict[str, Callable[..., Any]] = {
    "videomae": VideoMAEModel,
    "vivit": VivitModel,
    "timesformer": TimesformerModel,
}
UNITS = {"videomae": 16, "vivit": 16, "timesformer": 6}
"""Tubes or frames of a whole clip."""
PROBES = {"videomae": 4, "vivit": 3, "timesformer": 4}
"""Settings at which as many tokens attend to each other as there are heads."""


def classifier(family: str, **changes: Any) -> Any:
    """Return a classifier of a family with its settings changed as given."""
    return enlarged(CLASSIFIERS[family](config_of(family, **changes)))


def encoder(family: str, **changes: Any) -> Any:
    """Return a family's model without a head."""
    return enlarged(ENCODERS[family](config_of(family, **changes)))


def config_of(family: str, **changes: Any) -> Any:
    """Return a tiny configuration."""
    return CONFIGS[family](**{**SIZES, **OWN[family], "num_frames": FRAMES[family], **changes})


def clip(frames: int, batch: int = 3, side: int = SIDE) -> torch.Tensor:
    """Return seeded clips [batch, frames, 3, side, side]."""
    return torch.randn(batch, frames, 3, side, side, generator=torch.Generator().manual_seed(4))
