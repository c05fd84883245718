"""A module's digest changes with everything that changes what it computes, and with nothing else."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sanderling.compile.blocks.attention import Attention
from sanderling.compile.fingerprint import module_digest


@dataclass(frozen=True)
class Sizes:
    """A configuration, as models keep them."""

    heads: int = 2


class Model(nn.Module):
    """A module with one of everything that a digest has to see."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.sizes = Sizes()
        self.scale = 2.0
        self._hidden = "private"
        self.activation: Callable[[Tensor], Tensor] = torch.sigmoid
        self.table = torch.arange(3)
        self.array = np.arange(3)
        self.parts = [nn.Linear(2, 2)]
        self.options: dict[str, Any] = {"a": (1, None)}
        self.register_buffer("mask", torch.ones(3), persistent=False)


class Other(Model):
    """The same, of another class."""


def make(kind: type[Model] = Model) -> Model:
    torch.manual_seed(0)
    return kind()


def scaled(by: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * by


def test_equal_modules_have_equal_digests_wherever_they_are_in_memory() -> None:
    kept = [make() for _ in range(3)]
    assert len({module_digest(module) for module in kept}) == 1
    for module in kept:
        module.activation = scaled(2.0)
        module.array = functools.partial(scaled, 1.0)  # type: ignore[assignment]
        module.options = {"itself": module}
    assert len({module_digest(module) for module in kept}) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sizes", Sizes(4)),
        ("scale", 3.0),
        ("scale", "2.0"),
        ("_hidden", "other"),
        ("activation", torch.tanh),
        ("activation", scaled(1.0)),
        ("activation", functools.partial(torch.sigmoid, out=None)),
        ("table", torch.arange(3).flip(0)),
        ("table", torch.arange(3, dtype=torch.int32)),
        ("array", np.arange(3)[None]),
        ("parts", [nn.Linear(2, 2, bias=False)]),
        ("options", {"a": (1, 0)}),
        ("mask", torch.zeros(3)),
    ],
)
def test_every_attribute_counts(name: str, value: Any) -> None:
    module = make()
    setattr(module, name, value)
    assert module_digest(module) != module_digest(make())


def test_weights_hooks_and_the_class_count() -> None:
    plain = module_digest(make())
    with torch.no_grad():
        (changed := make()).linear.weight[0, 0] += 1e-6
    (hooked := make()).linear.register_forward_hook(lambda module, inputs, output: output + 1)
    bfloat16 = make().to(torch.bfloat16)
    digests = [module_digest(module) for module in (changed, hooked, bfloat16, make(Other))]
    assert len({plain, *digests}) == 5


def test_what_a_closure_holds_counts() -> None:
    one, two = make(), make()
    one.activation, two.activation = scaled(1.0), scaled(2.0)
    assert module_digest(one) != module_digest(two)


def test_a_number_of_heads_counts_though_no_weight_shows_it() -> None:
    def attention(heads: int) -> Attention:
        torch.manual_seed(0)
        return Attention(8, heads)

    assert module_digest(attention(2)) == module_digest(attention(2)) != module_digest(attention(4))


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A user's module that takes a function from a second file, which takes a number from a third."""
    (tmp_path / "fp_numbers.py").write_text("FACTOR = 2\n")
    (tmp_path / "fp_helper.py").write_text("import fp_numbers\n\ndef scale(x):\n    return x * fp_numbers.FACTOR\n")
    (tmp_path / "fp_model.py").write_text(
        "from fp_helper import scale\nfrom torch import nn\n\n\n"
        "class Scaled(nn.Module):\n    def forward(self, x):\n        return scale(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("fp_model")
    for name in ("fp_model", "fp_helper", "fp_numbers"):
        del sys.modules[name]


@pytest.mark.parametrize("name", ["fp_model", "fp_helper", "fp_numbers"])
def test_the_source_counts_of_every_file_that_the_class_leads_to(
    name: str, own_code: ModuleType, tmp_path: Path
) -> None:
    before = module_digest(own_code.Scaled())
    assert module_digest(own_code.Scaled()) == before
    (tmp_path / "unrelated.py").write_text("1\n")
    assert module_digest(own_code.Scaled()) == before
    with (tmp_path / f"{name}.py").open("a") as file:
        file.write("# changed\n")
    assert module_digest(own_code.Scaled()) != before


def test_the_code_counts_of_a_class_that_was_typed_in() -> None:
    def typed(line: str) -> nn.Module:
        names: dict[str, Any] = {"nn": nn, "__name__": "typed_in"}
        exec(f"class Typed(nn.Module):\n    def forward(self, x):\n        return {line}\n", names)
        module: nn.Module = names["Typed"]()
        return module

    assert module_digest(typed("x + 1")) == module_digest(typed("x + 1"))
    assert len({module_digest(typed(line)) for line in ("x + 1", "x + 2", "x - 1", "x.abs()")}) == 4
