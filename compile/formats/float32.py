"""float32 as exported: what every other format has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from sanderling import lookup
from sanderling.compile.number_format import Feeds, NumberFormat, demand


@dataclass(frozen=True)
class Float32:
    """The identity; every target takes it."""

    name: str = "float32"
    lossy: bool = False
    needs_calibration: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """Every target there is."""
        return lookup.names("target")

    def refuses(self, graph: bytes, target: str) -> str | None:
        """Return that there is no such target, or None."""
        return None if target in self.targets else f"there is no target {target!r}; known: {', '.join(self.targets)}"

    def convert(self, graph: bytes, feeds: Feeds, target: str) -> bytes:
        """Return the graph byte for byte."""
        demand(self, graph, target)
        return graph


FORMAT: NumberFormat = Float32()
