"""What every dual encoder shares: two components without a value in common, and a lever on the image tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sanderling.compile.architecture import Adapted, Part
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.text import TextConfig
from sanderling.compile.blocks.transformer import ACTIVATIONS
from sanderling.compile.blocks.vision import VisionConfig
from sanderling.compile.checkpoint import Weights, digest, expect_shape, load, read_weights
from sanderling.compile.preparation import text_files
from sanderling.compile.settings import Settings
from sanderling.compile.shared import filled, inner_layers, unreduced
from sanderling.spec import Component, InputSpec, Lever, ModelSpec, Site, TensorSpec

LEVER = "tokens.image"
REPORT = "image_kept"


@dataclass(frozen=True)
class DualEncoder:
    """A dual encoder before its weights are loaded.

    Attributes:
        name: of the model, for people.
        inputs: the picture, then the text.
        vision: sizes of the vision transformer.
        text: sizes of the text transformer.
        width: of both embeddings.
        build_vision: makes the vision part; `forward` takes pixels and, when it reduces, the number to keep.
        build_text: makes the text part; `forward` takes token ids.
        rename: from our parameter names, "vision.…" and "text.…", to the checkpoint's; as `load` takes it.
        ignore: checkpoint tensors that no embedding needs, as shell patterns.
        arrange: checkpoint tensors -> tensors in the form of our modules.
        end_token: id that has to end the example texts, or None.
    """

    name: str
    inputs: tuple[InputSpec, InputSpec]
    vision: VisionConfig
    text: TextConfig
    width: int
    build_vision: Callable[[ReduceAt | None], nn.Module]
    build_text: Callable[[], nn.Module]
    rename: tuple[tuple[str, str], ...]
    ignore: tuple[str, ...]
    arrange: Callable[[Weights], Weights]
    end_token: int | None = None


def adapt(model: DualEncoder, folder: Path) -> Adapted:
    """Return a dual encoder with the weights of a checkpoint folder.

    Raises:
        CheckpointError: the weights cannot be read or do not fit.
    """
    with torch.device("meta"):
        whole = nn.ModuleDict({"vision": model.build_vision(None), "text": model.build_text()})
    load(whole, model.arrange(read_weights(folder)), model.rename, model.ignore)
    vision = Part(
        "vision",
        filled(model.build_vision, whole["vision"]),
        (_pixels(model.vision),),
        probe=_as_many_as_heads(model.vision),
    )
    text = Part("text", filled(unreduced("text", model.build_text), whole["text"]), (_ids(model),))
    return Adapted(spec=_spec(model), parts=(vision, text), source=digest(folder), files=text_files(folder))


def vision_config(
    settings: Settings, *, class_token: bool = False, pre_norm: bool = False, patch_bias: bool = True
) -> VisionConfig:
    """Return the sizes in a vision section; the flags are the family's own."""
    return VisionConfig(
        image_size=settings.whole("image_size"),
        patch_size=settings.whole("patch_size"),
        width=settings.whole("hidden_size"),
        layers=settings.whole("num_hidden_layers"),
        heads=settings.heads(),
        hidden=settings.whole("intermediate_size"),
        activation=settings.choice("hidden_act", ACTIVATIONS),
        eps=settings.positive("layer_norm_eps"),
        channels=settings.equal("num_channels", 3),
        class_token=class_token,
        pre_norm=pre_norm,
        patch_bias=patch_bias,
    )


def text_config(settings: Settings, *, causal: bool) -> TextConfig:
    """Return the sizes in a text section."""
    return TextConfig(
        vocabulary=settings.whole("vocab_size"),
        positions=settings.whole("max_position_embeddings"),
        width=settings.whole("hidden_size"),
        layers=settings.whole("num_hidden_layers"),
        heads=settings.heads(),
        hidden=settings.whole("intermediate_size"),
        activation=settings.choice("hidden_act", ACTIVATIONS),
        eps=settings.positive("layer_norm_eps"),
        causal=causal,
    )


def flat_patches(weights: Mapping[str, Tensor], name: str, vision: VisionConfig) -> Weights:
    """Return the weights with the patch convolution as the linear layer that `VisionEncoder` has.

    Raises:
        CheckpointError: the convolution is not of the configured shape.
    """
    expect_shape(weights, name, (vision.width, vision.channels, vision.patch_size, vision.patch_size))
    return {n: tensor.flatten(1) if n == name else tensor for n, tensor in weights.items()}


def _spec(model: DualEncoder) -> ModelSpec:
    tokens = model.vision.tokens
    side = model.vision.image_size
    vision = Component(
        "vision",
        inputs=(TensorSpec("pixel_values", "float32", ("batch", model.vision.channels, side, side)),),
        outputs=(
            TensorSpec("image_embeddings", "float32", ("batch", model.width)),
            TensorSpec(REPORT, "int64", ("batch", "image_tokens")),
        ),
    )
    text = Component(
        "text",
        inputs=(TensorSpec("input_ids", "int64", ("batch", "tokens")),),
        outputs=(TensorSpec("text_embeddings", "float32", ("batch", model.width)),),
    )
    sites = [Site("vision", LEVER, "input", 0, REPORT)]
    sites += [Site("vision", LEVER, "inner", layer, REPORT) for layer in inner_layers(model.vision.layers)]
    return ModelSpec(
        name=model.name,
        inputs=model.inputs,
        components=(vision, text),
        levers=(Lever(LEVER, "tokens", minimum=1, maximum=tokens, default=tokens),),
        sites=tuple(sites),
        outputs=("image_embeddings", "text_embeddings", REPORT),
    )


def _as_many_as_heads(vision: VisionConfig) -> tuple[int, ...]:
    """Return the number of image tokens at which all tokens are as many as the heads."""
    number = vision.heads - (1 if vision.class_token else 0)
    return (number,) if 1 <= number <= vision.tokens else ()


def _pixels(vision: VisionConfig) -> Tensor:
    seeded = torch.Generator().manual_seed(0)
    return torch.randn(2, vision.channels, vision.image_size, vision.image_size, generator=seeded)


def _ids(model: DualEncoder) -> Tensor:
    """Return texts of the longest length, int64 [2, positions], the second with its end token in the middle."""
    tokens = model.text.positions
    ids = torch.randint(model.text.vocabulary, (2, tokens), generator=torch.Generator().manual_seed(0))
    if model.end_token is not None and model.end_token < model.text.vocabulary:
        ids[0, -1] = model.end_token
        ids[1, tokens // 2 :] = model.end_token
    return ids
