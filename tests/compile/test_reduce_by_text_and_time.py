"""An encoder that is told what matters to the text, or what the camera saw before: in torch, exported, and compiled."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

import sanderling
from sanderling import lookup
from sanderling.calibration.dataset import Data
from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.vision import VisionEncoder
from sanderling.compile.cache import Cache
from sanderling.compile.export import export
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import Recipe
from sanderling.engine import OpenOptions, opener
from sanderling.errors import RecipeError
from sanderling.scores import changed, energy, relevance
from sanderling.spec import ArrayInput, Component, TensorSpec

SIDE, TOKENS = tiny.SIDE, tiny.VISION.tokens
PIXELS = TensorSpec("pixel_values", "float32", ("batch", 3, SIDE, SIDE))
QUERY = TensorSpec("query", "float32", ("batch", tiny.VISION.width))
OUTPUTS = (TensorSpec("rows", "float32", ("batch", "keep", 32)), TensorSpec("kept", "int64", ("batch", "keep")))


def at(name: str, layer: int) -> ReduceAt:
    return ReduceAt(lookup.find("reducer", name), layer)


def encoder(where: ReduceAt | None) -> VisionEncoder:
    torch.manual_seed(0)
    return VisionEncoder(tiny.VISION, where).eval()


def frames() -> tuple[Tensor, Tensor]:
    """A frame, and the one before it, which differ in patches 1, 6 and 15 of 4 x 4."""
    frame = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    previous = frame.clone()
    for place in (1, 6, 15):
        row, column = 8 * (place // 4), 8 * (place % 4)
        previous[:, :, row : row + 8, column : column + 8] += 0.5
    return frame, previous


class Watching(nn.Module):
    """Encodes what changed between two frames."""

    def __init__(self, where: ReduceAt) -> None:
        super().__init__()
        self.encoder = encoder(where)

    def forward(self, pixel_values: Tensor, previous: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.encoder(pixel_values, keep, previous=previous)
        return tokens.rows, tokens.kept


@pytest.fixture(scope="module")
def watching() -> tuple[nn.Module, bytes]:
    """Return the module and its graph."""
    module = Watching(at("saliency", 0)).eval()
    component = Component("vision", (PIXELS, replace(PIXELS, name="previous")), OUTPUTS)
    example = tuple(frame.repeat(2, 1, 1, 1) for frame in frames())
    return module, export(module, component, example, {"keep": 8})


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_patches_that_did_not_change_are_not_encoded(target: str, watching: tuple[nn.Module, bytes]) -> None:
    module, graph = watching
    frame, previous = frames()
    engine = opener(target).open(lookup.find("target", target).lower(graph), OpenOptions(threads=1))
    for keep, kept in ((3, [1, 6, 15]), (4, [0, 1, 6, 15]), (TOKENS, list(range(TOKENS)))):
        got = engine.run({"pixel_values": frame.numpy(), "previous": previous.numpy(), "keep": np.asarray(keep)})
        with torch.inference_mode():
            rows, places = module(frame, previous, torch.tensor(keep))
        assert got["kept"].tolist() == places.tolist() == [kept]
        np.testing.assert_allclose(got["rows"], rows, atol=1e-5)  # two layers of float32, summed in another order


def test_a_previous_frame_at_an_inner_site_is_refused() -> None:
    frame, previous = frames()
    with pytest.raises(ValueError, match="what changed at the input, but tokens are reduced at saliency@1"):
        encoder(at("saliency", 1))(frame, torch.tensor(4), previous=previous)


def test_a_reducer_that_needs_the_text_says_so_when_it_gets_none() -> None:
    with pytest.raises(RecipeError, match="was given none; pass the relevance of every token"):
        encoder(at("text_guided", 0))(frames()[0], torch.tensor(4))


@pytest.mark.parametrize("layer", [0, 1])
def test_relevance_reaches_the_reducer_at_every_site(layer: int) -> None:
    wanted = torch.zeros(1, TOKENS)
    wanted[0, 11] = 1
    for name in ("text_guided", "relevance_diversity"):
        with torch.inference_mode():
            kept = encoder(at(name, layer))(frames()[0], torch.tensor(4), wanted).kept[0]
        assert 11 in kept.tolist()


def test_scores_are_the_same_on_torch_and_equal_its_own() -> None:
    rng = np.random.default_rng(0)
    rows, previous = (rng.standard_normal((2, 5, 16)).astype(np.float32) for _ in range(2))
    text = rng.standard_normal((2, 16)).astype(np.float32)
    one, two, words = (torch.from_numpy(array) for array in (rows, previous, text))
    np.testing.assert_allclose(relevance(rows, text), relevance(one, words), atol=1e-6)
    np.testing.assert_allclose(relevance(rows, text), torch.cosine_similarity(one, words[:, None], -1), atol=1e-5)
    np.testing.assert_allclose(changed(rows, previous), changed(one, two), rtol=1e-5)
    squares = torch.nn.functional.mse_loss(one, two, reduction="none").mean(-1)
    np.testing.assert_allclose(changed(rows, previous), squares.sqrt(), rtol=1e-5)
    np.testing.assert_allclose(energy(rows), energy(one), rtol=1e-5)


class Asked(nn.Module):
    """Picture and a query vector -> class scores of what matters to the query."""

    def __init__(self, where: ReduceAt | None) -> None:
        super().__init__()
        self.model = tiny.TinyVision(where)

    def forward(self, pixel_values: Tensor, query: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """float [batch, 3, 32, 32], [batch, 32] -> [batch, 3] and int64 [batch, keep]."""
        vision = self.model.encoder
        matters = relevance(vision.patch_embedding(vision._patches(pixel_values)), query)
        tokens = vision(pixel_values, keep, matters)
        weights = tokens.sizes / tokens.sizes.sum(-1, keepdim=True)
        return self.model.head((tokens.rows * weights[..., None]).sum(1)), tokens.kept


def asked() -> Adapted:
    torch.manual_seed(0)
    weights = Asked(None).state_dict()

    def build(where: ReduceAt | None) -> nn.Module:
        module = Asked(where)
        module.load_state_dict(weights)
        return module.eval()

    plain = tiny.spec()
    vision = replace(plain.components[0], inputs=(PIXELS, QUERY))
    spec = replace(plain, inputs=(*plain.inputs, ArrayInput("query", "float32", QUERY.shape)), components=(vision,))
    seeded = torch.Generator().manual_seed(0)
    example = (torch.randn(2, 3, SIDE, SIDE, generator=seeded), torch.randn(2, 32, generator=seeded))
    return Adapted(spec, (Part("vision", build, example, relevance=True),), hashlib.sha256(b"asked").hexdigest())


def test_a_model_that_knows_the_text_compiles(tmp_path: Path) -> None:
    """Its full graph does not read the query, which OpenVINO takes out of the inputs; every graph is compared."""
    step = Reduce(reducers=("text_guided",), layers=(0,), fractions=(0.5,))
    recipe = Recipe(passes=(("reduce", step),), targets=("openvino",), threads=1)
    rng = np.random.default_rng(0)
    samples = [
        {**sample, "query": rng.standard_normal((1, 32)).astype(np.float32)} for sample in tiny.tiny_data(2).samples
    ]
    data, cache = Data(samples), Cache(tmp_path / "cache")
    path = compile_model(asked(), tmp_path / "asked.sand", recipe=recipe, evaluation=data, cache=cache)
    answer = sanderling.load(path).run(samples[0])
    assert answer.outputs["scores"].shape == (1, 3)
