"""What a device file says: a named piece of hardware, which engines run there and which number formats pay."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A kind of hardware.

    Attributes:
        name: its file's name in `targets/devices/`.
        description: for people.
        architecture: "x86_64" or "arm64".
        requires: processor flags it has, as Linux spells them; the more, the more specific the device.
        targets: names of files in `targets/`, the one to prefer first.
        formats: number formats that pay here, "float32" or "int8"; measured ones first.
        memory_mb: memory for models, or None when it differs from machine to machine.
        source: where each of these facts comes from.
    """

    name: str
    description: str
    architecture: str
    requires: tuple[str, ...]
    targets: tuple[str, ...]
    formats: tuple[str, ...]
    memory_mb: int | None
    source: str
