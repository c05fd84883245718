"""The one small file that brings this model into Sanderling: its parts, how they connect, and where tokens can go.

sanderling compile examples/scene_qa/architecture.py -o scene_qa.sand --data examples.scene_qa.data:evaluation
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from examples.scene_qa.model import HEADS, MEAN, PAD_ID, STD, VISION, WIDTH, SceneModel
from examples.scene_qa.questions import ANSWERS, MAX_WORDS, WORDS
from examples.scene_qa.scenes import IMAGE_SIZE
from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.spec import Component, ImageInput, Lever, ModelSpec, Site, TensorSpec, TextInput

WEIGHTS = Path(__file__).parent / "weights" / "weights.safetensors"
STUDENT = Path(__file__).parent / "weights" / "student.safetensors"
"""Distilled from the trained model, with half its layers; see distill.py."""

_IDS = TensorSpec("input_ids", "int64", ("batch", "words"))
_IMAGE_TOKENS = TensorSpec("image_tokens", "float32", ("batch", "tokens", WIDTH))
_IMAGE_SIZES = TensorSpec("image_sizes", "float32", ("batch", "tokens"))
_KEPT = TensorSpec("image_kept", "int64", ("batch", "tokens"))
_TEXT_TOKENS = TensorSpec("text_tokens", "float32", ("batch", "words", WIDTH))

SPEC = ModelSpec(
    name="scene_qa",
    inputs=(
        ImageInput(
            name="image", tensor="pixel_values", height=IMAGE_SIZE, width=IMAGE_SIZE, resize="exact",
            shortest=IMAGE_SIZE, resample="bicubic", scale=1.0, mean=(MEAN,) * 3, std=(STD,) * 3,
        ),
        TextInput(
            name="text", tensor="input_ids", mask="", tokenizer="tokenizer.json", max_tokens=MAX_WORDS,
            pad_id=PAD_ID, pad_to="longest",
        ),
    ),
    components=(
        Component(
            "vision",
            (TensorSpec("pixel_values", "float32", ("batch", 3, IMAGE_SIZE, IMAGE_SIZE)),),
            (_IMAGE_TOKENS, _IMAGE_SIZES, _KEPT),
        ),
        Component("text", (_IDS,), (_TEXT_TOKENS,)),
        Component(
            "fusion",
            (_TEXT_TOKENS, _IDS, _IMAGE_TOKENS, _IMAGE_SIZES),
            (TensorSpec("answer_scores", "float32", ("batch", len(ANSWERS))),),
        ),
    ),
    levers=(Lever("tokens.image", "tokens", 1, VISION.tokens, VISION.tokens),),
    sites=tuple(
        Site("vision", "tokens.image", "input" if layer == 0 else "inner", layer, report="image_kept")
        for layer in (0, 2, 1, 3)
    ),
    outputs=("answer_scores", "image_kept"),
)  # fmt: skip


def adapt() -> Adapted:
    """Return the trained model, split. `SCENE_QA_WEIGHTS` names other weights than the committed ones."""
    return adapt_weights(Path(os.environ.get("SCENE_QA_WEIGHTS", WEIGHTS)))


def adapt_weights(path: Path) -> Adapted:
    """Return the model that a weights file is of, the trained one or a student with fewer layers, split."""
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}

    layers = layers_in(weights)

    def build(part: str, reduce_at: ReduceAt | None) -> nn.Module:
        model = SceneModel(reduce_at, layers)
        model.load_state_dict(weights)
        module: nn.Module = model.get_submodule(part)
        return module

    ids = torch.tensor([[2, 3, 4, 5, 0, 0], [2, 3, 4, 5, 6, 7]])
    sizes = torch.ones(2, VISION.tokens)
    pixels = torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    words, patches = torch.zeros(2, 6, WIDTH), torch.zeros(2, VISION.tokens, WIDTH)
    return Adapted(
        spec=SPEC,
        parts=(
            Part("vision", lambda at: build("vision", at), (pixels,), bound=2e-4, probe=(HEADS,)),
            Part("text", lambda at: build("text", at), (ids,)),
            Part("fusion", lambda at: build("fusion", at), (words, ids, patches, sizes)),
        ),
        source=hashlib.sha256(path.read_bytes()).hexdigest(),
        files={"tokenizer.json": tokenizer()},
    )


def layers_in(weights: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Return how many layers the vision encoder, the text encoder and the fusion have that these weights are of."""
    stacks = ("vision.encoder.layers", "text.layers", "fusion.layers")
    counts = [
        len({name.split(".")[stack.count(".") + 1] for name in weights if name.startswith(stack)}) for stack in stacks
    ]
    return counts[0], counts[1], counts[2]


def tokenizer() -> bytes:
    """Return the tokenizer: one id per word, [CLS] in front."""
    described: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [WORDS.index("[CLS]")], "tokens": ["[CLS]"]}},
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(WORDS)}, "unk_token": "[UNK]"},
    }
    return json.dumps(described, sort_keys=True).encode()
