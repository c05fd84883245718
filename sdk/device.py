"""What a device file says: a named piece of hardware, which engines run there and which number formats pay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Accelerator = Literal["", "nvidia", "intel_igpu", "intel_arc", "intel_npu"]
"""What must be in the machine besides its processor cores; "" for nothing."""


@dataclass(frozen=True)
class Device:
    """A kind of hardware.

    A machine fits a device when its architecture is the same, its processor has every flag of `requires`, its board's
    name contains `board`, it has the `accelerator`, and that is of the `compute_capability`.

    Attributes:
        name: its file's name in `targets/devices/`.
        description: for people.
        architecture: "x86_64" or "arm64".
        targets: names of files in `targets/`, the one to prefer first.
        formats: number formats that pay here, such as "float32" or "int8"; the one to try first is first.
        opset: highest ONNX operator set that every one of its engines reads.
        ir_version: highest version of the ONNX file format that every one of its engines reads.
        sources: name of a fact above or below -> where it comes from.
        requires: processor flags it has, as Linux spells them; the more, the more specific the device.
        board: part of the name that the board gives itself, such as "Orin Nano"; "" for any board.
        accelerator: what it computes on besides processor cores.
        compute_capability: of an NVIDIA GPU, such as "8.7"; None for other hardware.
        processor: what its engines call the place where models run: "CPU", "GPU", "NPU" or "CUDA".
        power_modes: names of the modes it can be set to, least power first; empty when it has none or they are unknown.
        oldest: target -> oldest version of its engine that is supported here.
        memory_mb: sizes that it is sold with, for models and everything else; empty when they differ freely.
        needs_static_shapes: whether every axis has to be known before a graph is opened.
    """

    name: str
    description: str
    architecture: str
    targets: tuple[str, ...]
    formats: tuple[str, ...]
    opset: int
    ir_version: int
    sources: Mapping[str, str]
    requires: tuple[str, ...] = ()
    board: str = ""
    accelerator: Accelerator = ""
    compute_capability: str | None = None
    processor: str = "CPU"
    power_modes: tuple[str, ...] = ()
    oldest: Mapping[str, str] = field(default_factory=dict)
    memory_mb: tuple[int, ...] = ()
    needs_static_shapes: bool = False
