"""Tiny Hugging Face dual encoders with weights large enough that attention, norms and biases all show in the output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sanderling import lookup
from sanderling.compile.architecture import Adapted
from sanderling.compile.blocks.reduce import ReduceAt
from torch import nn
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

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


def reduce_at(name: str, layer: int) -> ReduceAt:
    """Return a site with the named reducer."""
    return ReduceAt(lookup.find("reducer", name), layer)


def export_to_onnx(module: nn.Module, example: tuple[torch.Tensor, ...], path: Path) -> None:
    """Write a module with a free batch axis; scalars among the inputs stay scalars."""
    free = tuple({0: torch.export.Dim.DYNAMIC} if tensor.ndim else None for tensor in example)
    program = torch.onnx.export(module, example, dynamo=True, verbose=False, opset_version=20, dynamic_shapes=free)
    assert program is not None
    program.save(str(path))


def run_onnx(path: Path, *arrays: torch.Tensor) -> list[NDArray[Any]]:
    """Return a graph's outputs from ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    outputs = session.run(None, dict(zip(names, (array.numpy() for array in arrays), strict=True)))
    return [np.asarray(output) for output in outputs]
