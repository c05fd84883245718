"""From whatever the user has to a split model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from tiny_models import adapted_onnx, mlp, onnx_model
from torch import Tensor, nn

from sanderling.compile.sources import adapt, kept_in_mode
from sanderling.errors import CheckpointError, InputError, RecipeError, UnknownNameError
from sanderling.spec import ArrayInput, TensorSpec


class Several(nn.Module):
    """Two inputs; a float output, a scalar, and places."""

    def forward(self, rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return 1000 * rows + ids[:, None], rows.sum(), ids.argsort()


def test_an_adapted_model_stays_as_it_is() -> None:
    adapted = adapted_onnx()
    assert adapt(adapted) is adapted


def test_a_module_becomes_one_component_with_the_names_given() -> None:
    adapted = adapt(Several(), {"rows": torch.zeros(1, 5), "ids": torch.tensor([3])})
    component = adapted.spec.components[0]
    assert adapted.spec.inputs == (ArrayInput("rows", "float32", ("batch", 5)), ArrayInput("ids", "int64", ("batch",)))
    assert component.outputs == (
        TensorSpec("output_0", "float32", ("batch", 5)),
        TensorSpec("output_1", "float32", ()),
        TensorSpec("output_2", "int64", ("batch",)),
    )
    assert [tuple(tensor.shape) for tensor in adapted.parts[0].example] == [(2, 5), (2,)]
    assert adapted.spec.name == "Several"


def test_one_output_is_called_output() -> None:
    assert adapt(mlp(), {"x": torch.zeros(3, 8)}).spec.outputs == ("output",)


def test_the_bound_grows_with_the_outputs() -> None:
    assert adapt(mlp(), {"x": torch.zeros(1, 8)}).parts[0].bound == pytest.approx(1e-4)
    large = {"rows": torch.full((1, 5), -2.0), "ids": torch.tensor([3])}
    assert adapt(Several(), large).parts[0].bound == pytest.approx(1e-4 * 1997)


def test_a_digest_tells_weights_apart() -> None:
    first, again, other = (adapt(mlp(seed), {"x": torch.zeros(1, 8)}).source for seed in (0, 0, 1))
    assert first == again != other


def test_modes_are_given_back_even_after_an_error() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout())).train()
    module[1].eval()
    with pytest.raises(InputError), kept_in_mode(module):
        adapt(module, {"x": torch.tensor(1.0)})
    with kept_in_mode(module):
        adapt(module, {"x": torch.zeros(2, 2)})
        assert not module.training
    assert [part.training for part in module.modules()] == [True, True, False, False]


def test_a_file_is_read_by_its_ending(tmp_path: Path) -> None:
    onnx.save(onnx_model(), tmp_path / "a.onnx")
    assert adapt(str(tmp_path / "a.onnx")).spec.name == "a"
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"a\.pt is none of a checkpoint folder, an \.onnx file and a \.py file"):
        adapt(tmp_path / "a.pt")


def test_a_folder_is_read_by_its_model_type(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clipp"}')
    with pytest.raises(UnknownNameError, match="unknown architecture 'clipp'; did you mean 'clip'"):
        adapt(tmp_path)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("x = 1", RecipeError, r"has no function adapt\(\); it must return"),
        ("adapt = 1", RecipeError, r"has no function adapt\(\)"),
        ("def adapt(): return 1", RecipeError, r"adapt\(\) in .*model\.py returned int, expected Adapted"),
        ("def adapt(): raise KeyError('mine')", KeyError, "mine"),
        ("import absent_library", ModuleNotFoundError, "absent_library"),
        ("def adapt(:", SyntaxError, "model.py"),
    ],
    ids=["nothing", "no function", "wrong return", "error inside", "import inside", "syntax"],
)
def test_files_that_do_not_adapt_are_refused_and_their_own_errors_stay_visible(
    text: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / "model.py").write_text(text)
    loaded = set(sys.modules)
    with pytest.raises(error, match=message):
        adapt(tmp_path / "model.py")
    if error is ModuleNotFoundError:
        assert set(sys.modules) == loaded, "a module that did not load must not stay"


def test_adapt_may_be_any_callable(tmp_path: Path) -> None:
    text = "import functools\nfrom tiny_models import adapted_onnx\nadapt = functools.partial(adapted_onnx, 0.5)\n"
    (tmp_path / "model.py").write_text(text)
    assert adapt(tmp_path / "model.py").parts[0].bound == 0.5


@pytest.mark.parametrize("value", [{"x": torch.zeros(1, 8, 0)}, {}, None], ids=["empty", "none", "nothing"])
def test_examples_that_say_nothing_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="example"):
        adapt(mlp(), value)
