"""A vision model so small that a test can compile it: 16 image tokens, 2 layers, a head with 3 classes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sanderling.calibration.dataset import Data
from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.vision import VisionConfig, VisionEncoder
from sanderling.compile.cache import Cache
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import Recipe
from sanderling.spec import Component, ImageInput, Lever, ModelSpec, Site, TensorSpec

SIDE = 32
CLASSES = 3
VISION = VisionConfig(image_size=SIDE, patch_size=8, width=32, layers=2, heads=2, hidden=64)
RECIPE = Recipe(
    passes=(("reduce", Reduce(reducers=("random", "saliency"), layers=(1,), fractions=(0.5, 0.25))),),
    targets=("onnxruntime",),
    threads=1,
)


class TinyVision(nn.Module):
    """Picture -> scores of three classes and which patches were looked at."""

    def __init__(self, reduce_at: ReduceAt | None = None) -> None:
        super().__init__()
        self.encoder = VisionEncoder(VISION, reduce_at)
        self.head = nn.Linear(VISION.width, CLASSES)

    def forward(self, pixel_values: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """float [batch, 3, 32, 32] -> [batch, 3] and int64 [batch, keep]."""
        tokens = self.encoder(pixel_values, keep)
        weights = tokens.sizes / tokens.sizes.sum(-1, keepdim=True)
        return self.head((tokens.rows * weights[..., None]).sum(1)), tokens.kept


def spec() -> ModelSpec:
    """The model's description: one component, one lever, sites at the input and after the first layer."""
    image = ImageInput(
        name="image", tensor="pixel_values", height=SIDE, width=SIDE, resize="exact", shortest=SIDE,
        resample="bilinear", scale=1 / 255, mean=(0.5,) * 3, std=(0.25,) * 3,
    )  # fmt: skip
    vision = Component(
        "vision",
        (TensorSpec("pixel_values", "float32", ("batch", 3, SIDE, SIDE)),),
        (TensorSpec("scores", "float32", ("batch", CLASSES)), TensorSpec("image_kept", "int64", ("batch", "tokens"))),
    )
    sites = (
        Site("vision", "tokens.image", "input", 0, report="image_kept"),
        Site("vision", "tokens.image", "inner", 1, report="image_kept"),
    )
    levers = (Lever("tokens.image", "tokens", 1, VISION.tokens, VISION.tokens),)
    return ModelSpec("tiny", (image,), (vision,), levers, sites, ("scores", "image_kept"))


def adapted_tiny(seed: int = 0) -> Adapted:
    """Return the tiny model with seeded random weights, split."""
    torch.manual_seed(seed)
    weights = TinyVision().state_dict()

    def build(at: ReduceAt | None) -> nn.Module:
        model = TinyVision(at)
        model.load_state_dict(weights)
        return model.eval()

    source = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in weights.values())).hexdigest()
    example = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return Adapted(spec(), (Part("vision", build, (example,)),), source)


def tiny_data(count: int = 6, seed: int = 0) -> Data:
    """Return pictures of noise with a bright square, uint8 [32, 32, 3]."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        picture = rng.integers(90, 160, (SIDE, SIDE, 3), dtype=np.uint8)
        row, column = rng.integers(0, SIDE - 12, 2)
        picture[row : row + 12, column : column + 12] = rng.integers(0, 255, 3)
        samples.append({"image": picture})
    return Data(samples)


def compile_tiny(folder: Path, recipe: Recipe = RECIPE, **options: object) -> Path:
    """Return a bundle of the tiny model, compiled into a folder with a cache of its own."""
    given: dict[str, object] = {"evaluation": tiny_data(), "cache": Cache(folder / "cache"), **options}
    return compile_model(adapted_tiny(), folder / "tiny.sand", recipe=recipe, **given)  # type: ignore[arg-type]
