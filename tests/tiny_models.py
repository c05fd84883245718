"""Models of a few weights: ready ONNX graphs, which need no export, and modules that export in a blink."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from sanderling.calibration.dataset import Data
from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.cache import Cache
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import Recipe
from sanderling.spec import ArrayInput, Component, Lever, Loop, ModelSpec, TensorSpec

QUICK = Recipe(targets=("onnxruntime",), threads=1)
STEPS = 8


def onnx_model(nodes: list[NodeProto] | None = None, rows: int | str = "batch", weights: int = 64) -> onnx.ModelProto:
    """Return x [rows, 8] -> softmax(x @ w) [rows, weights], or what the nodes make of x, w and v."""
    rng = np.random.default_rng(0)
    w = numpy_helper.from_array(rng.standard_normal((8, weights)).astype(np.float32), "w")
    default = [helper.make_node("MatMul", ["x", "w"], ["v"]), helper.make_node("Softmax", ["v"], ["y"])]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [rows, c]) for n, c in (("x", 8), ("y", weights)))
    graph = helper.make_graph(nodes or default, "tiny", [x], [y], [w])
    domains = [helper.make_opsetid(domain, 20 if domain == "" else 1) for domain in ("", "my.ops")]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def adapted_onnx(bound: float = 1e-4, nodes: list[NodeProto] | None = None) -> Adapted:
    """Return `onnx_model` as a split model of one component, "classify"."""
    x, y = TensorSpec("x", "float32", ("batch", 8)), TensorSpec("y", "float32", ("batch", 64))
    spec = ModelSpec(
        "ready", (ArrayInput("x", "float32", ("batch", 8)),), (Component("classify", (x,), (y,)),), outputs=("y",)
    )
    graph = onnx_model(nodes).SerializeToString(deterministic=True)
    part = Part("classify", None, (torch.zeros(2, 8),), bound=bound, graph=graph)
    return Adapted(spec, (part,), hashlib.sha256(graph).hexdigest())


def rows_data(count: int = 3, seed: int = 0) -> Data:
    """Return samples of `x`, float32 [1, 8]."""
    rng = np.random.default_rng(seed)
    return Data([{"x": rng.standard_normal((1, 8)).astype(np.float32)} for _ in range(count)])


def mlp(seed: int = 0) -> nn.Module:
    """Return a module float [batch, 8] -> [batch, 3] with one weight above 1 kB."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3))


class Step(nn.Module):
    """One step of a toy generator: the next state from the state and the condition, both float [batch, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(16, 8)

    def forward(self, state: Tensor, condition: Tensor) -> Tensor:
        """Return the next state, float [batch, 8]."""
        return torch.tanh(self.mix(torch.cat([state, condition], dim=-1)))


def looped(seed: int = 0) -> tuple[Step, nn.Linear]:
    """Return the step and the head of the toy generator."""
    torch.manual_seed(seed)
    step, head = Step(), nn.Linear(8, 4)
    with torch.no_grad():
        step.mix.weight.mul_(3)  # strong enough that every further step shows
    return step.eval(), head.eval()


def adapted_loop(default: int = STEPS) -> Adapted:
    """Return the generator: "denoise" runs `steps` times, 2 to 8, then "decode" reads the last state."""
    step, head = looped()
    state, condition = (TensorSpec(name, "float32", ("batch", 8)) for name in ("state", "condition"))
    after = TensorSpec("next_state", "float32", ("batch", 8))
    spec = ModelSpec(
        name="generator",
        inputs=tuple(ArrayInput(tensor.name, "float32", ("batch", 8)) for tensor in (state, condition)),
        components=(
            Component("denoise", (state, condition), (after,), Loop("steps", (("next_state", "state"),))),
            Component("decode", (after,), (TensorSpec("picture", "float32", ("batch", 4)),)),
        ),
        levers=(Lever("steps", "steps", 2, STEPS, default),),
        outputs=("picture", "next_state"),
    )
    example = torch.zeros(2, 8)
    parts = (Part("denoise", lambda _: step, (example, example)), Part("decode", lambda _: head, (example,)))
    return Adapted(spec, parts, "generator")


def with_part(adapted: Adapted, component: str, **changes: Any) -> Adapted:
    """Return a split model with one part changed."""
    parts = tuple(replace(p, **changes) if p.component == component else p for p in adapted.parts)
    return replace(adapted, parts=parts)


def reduce_recipe(*targets: str, **options: Any) -> Recipe:
    """Return a recipe of one reducing graph."""
    chosen = {"reducers": ("saliency",), "layers": (1,), "fractions": (0.5,), **options}
    return Recipe(passes=(("reduce", Reduce(**chosen)),), targets=targets or ("onnxruntime",), threads=1)


@contextmanager
def brief() -> Iterator[None]:
    """Measure less often than a real compile does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sanderling.calibration.choose.ROUNDS", 2)
        patch.setattr("sanderling.calibration.settle.CALLS", 1)
        patch.setattr("sanderling.calibration.profile.WARM_UP", 1)
        patch.setattr("sanderling.compile.pipeline.MADE_UP_SAMPLES", 3)
        yield


def compile_quick(source: Any, folder: Path, **options: Any) -> Path:
    """Return a bundle in `folder`, with a cache in it, measured as briefly as can be."""
    given = {"recipe": QUICK, "cache": Cache(folder / "cache"), **options}
    with brief():
        return compile_model(source, folder / "out.sand", **given)
