"""Every reducer, exported once with `keep` as a scalar input, equals its NumPy form on every engine and in torch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sanderling import lookup
from sanderling.arrays import NumpyArrays
from sanderling.compile.blocks.arrays import TorchArrays
from sanderling.compile.blocks.reduce import choose
from sanderling.compile.export import export
from sanderling.engine import Engine, OpenOptions, opener
from sanderling.reduction import Reducer, View, shrink
from sanderling.spec import Component, TensorSpec

REDUCERS = lookup.names("reducer")
GRIDS = [(4, 4), (1, 12)]
BATCH, WIDTH = 2, 8
Feed = dict[str, NDArray[Any]]


class Reducing(nn.Module):
    """One reducer and nothing else."""

    def __init__(self, reducer: Reducer, grid: tuple[int, int]) -> None:
        super().__init__()
        self.reducer = reducer
        self.grid = grid

    def forward(
        self, metric: Tensor, saliency: Tensor, relevance: Tensor, sizes: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Places that stay, what is left of the metric, and the sizes."""
        reduction = choose(self.reducer, metric, saliency, keep, self.grid, relevance)
        return reduction.kept, *shrink(TorchArrays(), reduction, metric, sizes)


@functools.cache
def graph_of(name: str, grid: tuple[int, int]) -> bytes:
    n = grid[0] * grid[1]
    row = ("batch", n)
    inputs = [TensorSpec("metric", "float32", (*row, WIDTH))]
    inputs += [TensorSpec(each, "float32", row) for each in ("saliency", "relevance", "sizes")]
    outputs = [TensorSpec("kept", "int64", ("batch", "keep")), TensorSpec("rows", "float32", ("batch", "keep", WIDTH))]
    outputs += [TensorSpec("left", "float32", ("batch", "keep"))]
    component = Component(name, tuple(inputs), tuple(outputs))
    example = [torch.from_numpy(array) for array in feed(n, 0).values()]
    return export(Reducing(lookup.find("reducer", name), grid), component, example, {"keep": n // 2})


@functools.cache
def engine_of(target: str, name: str, grid: tuple[int, int]) -> Engine:
    graph = lookup.find("target", target).lower(graph_of(name, grid))
    return opener(target).open(graph, OpenOptions(threads=1))


def feed(n: int, seed: int) -> Feed:
    """Values without ties."""
    rng = np.random.default_rng(seed)
    shapes = {"metric": (BATCH, n, WIDTH), "saliency": (BATCH, n), "relevance": (BATCH, n)}
    drawn = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**drawn, "sizes": rng.integers(1, 4, (BATCH, n)).astype(np.float32)}


def tied(n: int, seed: int) -> Feed:
    """Four different tokens, one of zeros, and three different scores: nearly everything ties."""
    rng = np.random.default_rng(seed)
    few = rng.standard_normal((4, WIDTH)).astype(np.float32)
    few[0] = 0
    scores = {name: rng.integers(0, 3, (BATCH, n)).astype(np.float32) for name in ("saliency", "relevance")}
    return {"metric": few[rng.integers(0, 4, (BATCH, n))], **scores, "sizes": np.ones((BATCH, n), np.float32)}


def by_numpy(name: str, grid: tuple[int, int], given: Feed, keep: int) -> list[NDArray[Any]]:
    view = View(given["metric"], given["saliency"], np.float32(keep), grid, given["relevance"])
    reduction = lookup.find("reducer", name)(NumpyArrays(), view, keep)
    return [reduction.kept, *shrink(NumpyArrays(), reduction, given["metric"], given["sizes"])]


def by_torch(name: str, grid: tuple[int, int], given: Feed, keep: int) -> list[NDArray[Any]]:
    inputs = [torch.from_numpy(array) for array in given.values()]
    return [out.numpy() for out in Reducing(lookup.find("reducer", name), grid)(*inputs, torch.tensor(keep))]


def by_engine(target: str, name: str, grid: tuple[int, int], given: Feed, keep: int) -> list[NDArray[Any]]:
    return list(engine_of(target, name, grid).run({**given, "keep": np.asarray(keep)}).values())


@pytest.mark.parametrize("make", [feed, tied], ids=["all different", "nearly all tied"])
@pytest.mark.parametrize("form", ["torch", "onnxruntime", "openvino"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("name", REDUCERS)
def test_every_form_keeps_and_merges_the_same(name: str, grid: tuple[int, int], form: str, make: Any) -> None:
    n = grid[0] * grid[1]
    for keep in (1, 2, 3, n // 2, n - 2, n):
        given = make(n, keep)
        expected = by_numpy(name, grid, given, keep)
        got = by_torch(name, grid, given, keep) if form == "torch" else by_engine(form, name, grid, given, keep)
        np.testing.assert_array_equal(got[0], expected[0], err_msg=f"kept places at keep={keep}")
        np.testing.assert_array_equal(got[2], expected[2], err_msg=f"sizes at keep={keep}")
        # Means of at most 36 float32 rows, summed in another order.
        np.testing.assert_allclose(got[1], expected[1], atol=1e-5, err_msg=f"rows at keep={keep}")
