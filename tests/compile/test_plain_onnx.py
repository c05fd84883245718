"""Plain ONNX files: what is in them is what is compiled, and what cannot be is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from tiny_models import onnx_model

from sanderling.compile.made_up import make_up
from sanderling.compile.plain_onnx import adapt_onnx
from sanderling.errors import CheckpointError
from sanderling.spec import TensorSpec


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def one_node(kind: str, into: onnx.ValueInfoProto, out: onnx.ValueInfoProto) -> onnx.ModelProto:
    graph = helper.make_graph([helper.make_node(kind, [into.name], [out.name])], "g", [into], [out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_inputs_outputs_and_free_axes_are_the_file_s(tmp_path: Path) -> None:
    adapted = adapt_onnx(saved(onnx_model(), tmp_path))
    component = adapted.spec.components[0]
    assert adapted.spec.name == "model"
    assert component.inputs == (TensorSpec("x", "float32", ("batch", 8)),)
    assert component.outputs == (TensorSpec("y", "float32", ("batch", 64)),)
    assert not adapted.spec.levers
    assert not adapted.spec.sites
    assert adapted.spec.outputs == ("y",)
    assert adapted.parts[0].example[0].shape == (2, 8)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_fixed_batch_stays_fixed(rows: int, tmp_path: Path) -> None:
    adapted = adapt_onnx(saved(onnx_model(rows=rows), tmp_path))
    assert adapted.spec.components[0].inputs[0].shape == (rows, 8)
    assert make_up(adapted, 1, 0).samples[0]["x"].shape == (rows, 8)


def test_axes_without_a_name_get_one(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.INT64, [None, "n"]) for name in "xy")
    adapted = adapt_onnx(saved(one_node("Neg", x, y), tmp_path))
    assert adapted.spec.components[0].inputs[0] == TensorSpec("x", "int64", ("x_axis_0", "n"))
    assert adapted.parts[0].example[0].dtype == torch.int64


def test_weights_listed_as_inputs_are_weights(tmp_path: Path) -> None:
    model = onnx_model()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8, 64]))
    assert [tensor.name for tensor in adapt_onnx(saved(model, tmp_path)).spec.components[0].inputs] == ["x"]


def test_weights_in_a_file_beside_it_are_taken_in(tmp_path: Path) -> None:
    inside = adapt_onnx(saved(onnx_model(), tmp_path))
    (tmp_path / "beside").mkdir()
    path = tmp_path / "beside" / "model.onnx"
    onnx.save(onnx_model(), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    adapted = adapt_onnx(path)
    weight = onnx.load_from_string(adapted.parts[0].graph).graph.initializer[0]
    wanted = onnx.load_from_string(inside.parts[0].graph).graph.initializer[0]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), onnx.numpy_helper.to_array(wanted))
    (tmp_path / "beside" / "model.onnx.data").unlink()
    with pytest.raises(CheckpointError, match=r"model\.onnx is not a valid ONNX model: .*model\.onnx\.data"):
        adapt_onnx(path)


def test_equal_files_have_equal_digests_and_a_changed_weight_another(tmp_path: Path) -> None:
    first = adapt_onnx(saved(onnx_model(), tmp_path)).source
    assert adapt_onnx(saved(onnx_model(), tmp_path)).source == first
    assert adapt_onnx(saved(onnx_model(weights=65), tmp_path)).source != first


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    data = onnx_model().SerializeToString()
    for name, content in {"cut": data[:-40], "noise": b"\xff" * 100, "empty": b""}.items():
        (tmp_path / f"{name}.onnx").write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name}.onnx is not a valid ONNX model"):
            adapt_onnx(tmp_path / f"{name}.onnx")


def test_inputs_that_are_not_plain_numbers_are_refused(tmp_path: Path) -> None:
    texts = [helper.make_tensor_value_info(name, TensorProto.STRING, [2]) for name in "xy"]
    with pytest.raises(CheckpointError, match=r"'x' holds STRING, expected one of float32"):
        adapt_onnx(saved(one_node("Identity", *texts), tmp_path))
    listed = [helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    with pytest.raises(CheckpointError, match="'x' is not a tensor; sequences and maps"):
        adapt_onnx(saved(one_node("Identity", *listed), tmp_path))
    bare = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    with pytest.raises(CheckpointError, match="Field 'shape' of 'type' is required"):
        adapt_onnx(saved(one_node("Identity", *bare), tmp_path))
