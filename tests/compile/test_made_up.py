"""Made-up inputs: seeded, and of a form that the model takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import adapted_tiny
from tiny_models import adapted_loop, adapted_onnx
from tiny_tokenizers import bpe, data, words

from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.made_up import METRIC, make_up
from sanderling.errors import RecipeError
from sanderling.inputs import check_array, prepare_image
from sanderling.spec import ArrayInput, Component, ImageInput, ModelSpec, TensorSpec, TextInput
from sanderling.text import Tokenizer


def texts(tokenizer: bytes, max_tokens: int) -> Adapted:
    """A model that reads a text."""
    ids = TensorSpec("ids", "int64", ("batch", "tokens"))
    spec = ModelSpec(
        name="reader",
        inputs=(TextInput("text", "ids", "", "tokenizer.json", max_tokens, 0, "longest"),),
        components=(Component("read", (ids,), (TensorSpec("y", "float32", ("batch",)),)),),
        outputs=("y",),
    )
    return Adapted(
        spec, (Part("read", None, (torch.ones(2, 5, dtype=torch.int64),)),), "", {"tokenizer.json": tokenizer}
    )


def arrays(**examples: torch.Tensor) -> Adapted:
    """A model that reads arrays, with a batch of 2 in the examples and other lengths free."""
    tensors = tuple(
        TensorSpec(name, str(t.dtype).removeprefix("torch."), ("batch", *(f"n{i}" for i in range(t.ndim - 1))))
        for name, t in examples.items()
    )
    out = TensorSpec("y", "float32", ("batch",))
    inputs = tuple(ArrayInput(t.name, t.dtype, t.shape) for t in tensors)
    spec = ModelSpec("arrays", inputs, (Component("c", tensors, (out,)),), outputs=("y",))
    return Adapted(spec, (Part("c", None, tuple(examples.values())),), "")


@pytest.mark.parametrize("make", [adapted_tiny, adapted_onnx, adapted_loop], ids=["picture", "array", "arrays"])
def test_the_seed_and_nothing_else_decides_the_samples(make: Any) -> None:
    first, again, other = (make_up(make(), 3, seed) for seed in (0, 0, 1))
    assert first.digest() == again.digest() != other.digest()
    assert first.metric == METRIC
    assert first.score is None
    assert len(first.samples) == 3
    assert len({make_up(make(), 1, seed).digest() for seed in range(4)}) == 4


def test_pictures_are_of_the_model_s_size_with_something_to_see() -> None:
    spec = adapted_tiny().spec.inputs[0]
    assert isinstance(spec, ImageInput)
    picture = make_up(adapted_tiny(), 1, 0).samples[0]["image"]
    assert prepare_image(spec, picture).shape == (1, 3, 32, 32)
    patches = picture.reshape(4, 8, 4, 8, 3).transpose(0, 2, 1, 3, 4).reshape(16, -1)
    assert len(set(patches.std(1).round(3))) == 16, (
        "patches of equal contrast would leave reducers nothing to choose by"
    )


def test_arrays_of_one_model_agree_in_their_free_lengths() -> None:
    adapted = arrays(rows=torch.zeros(2, 5, 7), ids=torch.arange(10).reshape(2, 5), mask=torch.ones(2, 5) > 0)
    sample = make_up(adapted, 1, 0).samples[0]
    assert {name: (value.shape, str(value.dtype)) for name, value in sample.items()} == {
        "rows": ((1, 5, 7), "float32"),
        "ids": ((1, 5), "int64"),
        "mask": ((1, 5), "bool"),
    }
    for spec in adapted.spec.inputs:
        assert isinstance(spec, ArrayInput)
        check_array(spec, sample[spec.name])
    np.testing.assert_array_equal(sample["ids"], [[0, 1, 2, 3, 4]])
    assert sample["rows"].std() > 0.5


def test_fixed_shapes_stay() -> None:
    x, out = TensorSpec("x", "float32", (3, 2)), TensorSpec("y", "float32", (3,))
    scale = TensorSpec("scale", "float32", ())
    inputs = (ArrayInput("x", "float32", (3, 2)), ArrayInput("scale", "float32", ()))
    spec = ModelSpec("fixed", inputs, (Component("c", (x, scale), (out,)),), outputs=("y",))
    sample = make_up(Adapted(spec, (Part("c", None, (torch.zeros(3, 2), torch.tensor(1.0))),), ""), 1, 0).samples[0]
    assert (sample["x"].shape, sample["scale"].shape) == ((3, 2), ())


@pytest.mark.parametrize("max_tokens", [3, 5, 8, 64])
@pytest.mark.parametrize("make", [bpe, words])
def test_texts_fit_the_model(make: Any, max_tokens: int) -> None:
    adapted = texts(data(make()), max_tokens)
    spec = adapted.spec.inputs[0]
    assert isinstance(spec, TextInput)
    tokenizer = Tokenizer(adapted.files["tokenizer.json"])
    lengths = []
    for sample in make_up(adapted, 10, 0).samples:
        lengths.append(len(str(sample["text"]).split()))
        if lengths[-1] > 1:  # a single word may still be too long for it; then nothing can be made up
            tokenizer.encode(sample["text"], spec)
    assert max(lengths) == 4 or max_tokens < 8


def test_an_input_that_nothing_reads_is_refused() -> None:
    adapted = adapted_onnx()
    unread = ArrayInput("z", "float32", ("batch", 2))
    with pytest.raises(RecipeError, match="model 'ready' has input 'z', which no component reads; leave it out"):
        make_up(replace(adapted, spec=replace(adapted.spec, inputs=(*adapted.spec.inputs, unread))), 1, 0)
