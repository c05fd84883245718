"""Tiny Hugging Face dual encoders with weights large enough that attention, norms and biases all show in the output."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from sanderling import lookup
from sanderling.compile.architecture import Adapted
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.export import export

VOCABULARY = 60
END = 57
"""Not the highest id, so that the two rules for the end of a text differ."""

TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 11,
    "pad_token_id": 1,
    "bos_token_id": 56,
    "eos_token_id": END,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
TOKENS = 16


def clip(text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None) -> CLIPModel:
    """Return a CLIP model with its text and vision settings changed as given."""
    config = CLIPConfig(
        text_config={**TEXT, **(text or {})}, vision_config={**VISION, **(vision or {})}, projection_dim=20
    )
    return enlarged(CLIPModel(config))


def siglip(text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None) -> SiglipModel:
    """Return a SigLIP model with its text and vision settings changed as given."""
    config = SiglipConfig(
        text_config={**TEXT, "projection_size": 32, **(text or {})}, vision_config={**VISION, **(vision or {})}
    )
    return enlarged(SiglipModel(config))


def enlarged(model: Any) -> Any:
    """Fill a model with seeded values: small random weights would hide attention and bias errors."""
    seeded = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=seeded) * 0.3
            parameter.copy_(1 + noise if "norm" in name and name.endswith("weight") else noise)
    return model.eval()


def pixels(batch: int = 3, side: int = 32) -> torch.Tensor:
    """Return seeded pictures [batch, 3, side, side]."""
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(2))


def ids(batch: int, tokens: int, low: int = 2, high: int = 50) -> torch.Tensor:
    """Return seeded token ids without any special token, int64 [batch, tokens]."""
    return torch.randint(low, high, (batch, tokens), generator=torch.Generator().manual_seed(3))


def build(adapted: Adapted, component: str, at: ReduceAt | None = None) -> nn.Module:
    """Return a component's module."""
    part = next(part for part in adapted.parts if part.component == component)
    assert part.build is not None
    return part.build(at)


def without_text() -> list[str]:
    """Return the reducers that a dual encoder's picture can use: it never meets the text."""
    return [name for name in lookup.names("reducer") if not lookup.find("reducer", name).needs_text]


def reduce_at(name: str, layer: int) -> ReduceAt:
    """Return a site with the named reducer."""
    return ReduceAt(lookup.find("reducer", name), layer)


def exported(adapted: Adapted, component: str, module: nn.Module, levers: dict[str, int]) -> Graph:
    """Return a component's module as a graph that ONNX Runtime has opened."""
    part = next(part for part in adapted.parts if part.component == component)
    return Graph(export(module, adapted.spec.component(component), part.example, levers))


class Graph:
    """A serialised ONNX model in ONNX Runtime: tensors in, in order, arrays out."""

    def __init__(self, model: bytes) -> None:
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def __call__(self, *inputs: torch.Tensor) -> list[NDArray[Any]]:
        names = [tensor.name for tensor in self._session.get_inputs()]
        outputs = self._session.run(None, dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True)))
        return [np.asarray(output) for output in outputs]
