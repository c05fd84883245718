"""What a compile has to reach, and how far it is from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sanderling.errors import RecipeError
from sanderling.ladder import Ladder, Rung

FORMAT_DROP_MAX = 0.01
"""What a number format may cost where no goal says it."""


@dataclass(frozen=True)
class Goals:
    """Goals of a recipe; what is left out is not asked for.

    Attributes:
        quality_drop_max: how far quality may fall below the source model's, on the metric's scale, for a rung to count.
        latency_ms: some rung that counts ends within this.
        percentile: of the calls that end within `latency_ms`, 50 to 99.
        size_mb: the bundle has at most as many MB.
    """

    quality_drop_max: float | None = None
    latency_ms: float | None = None
    percentile: float = 90.0
    size_mb: float | None = None

    def __post_init__(self) -> None:
        if self.quality_drop_max is not None and not 0 <= self.quality_drop_max <= 1:
            raise RecipeError(f"goal quality_drop_max is {self.quality_drop_max}, expected 0 to 1, such as 0.01")
        for name in ("latency_ms", "size_mb"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise RecipeError(f"goal {name} is {value}, expected a number above 0; leave it out for no limit")
        if not 50 <= self.percentile <= 99:
            raise RecipeError(f"goal percentile is {self.percentile}, expected 50 to 99")

    @property
    def format_drop_max(self) -> float:
        """How much quality a number format may cost: the goal's, or 0.01 where there is none."""
        return FORMAT_DROP_MAX if self.quality_drop_max is None else self.quality_drop_max

    def missed(self, ladder: Ladder, source_quality: float, size_mb: float) -> tuple[str, ...]:
        """Return one sentence for every goal that was not reached: how close it came and what blocks it.

        Args:
            ladder: the rungs, cheapest first.
            source_quality: the source model's, in float32, on the same samples.
            size_mb: of the bundle.
        """
        return tuple(self._missed(ladder, source_quality, size_mb))

    def _missed(self, ladder: Ladder, source_quality: float, size_mb: float) -> Iterator[str]:
        floor = -math.inf if self.quality_drop_max is None else source_quality - self.quality_drop_max
        good = [rung for rung in ladder.rungs if rung.quality.score >= floor]
        if not good:
            best = max(rung.quality.score for rung in ladder.rungs)
            yield f"quality: the best rung has {best:.3f}, needed {floor:.3f} ({source_quality:.3f} in the source)"
        if self.latency_ms is not None and good:
            yield from self._missed_latency(self.latency_ms, good)
        if self.size_mb is not None and size_mb > self.size_mb:
            yield f"size: the bundle has {size_mb:.2f} MB, at most {self.size_mb:g} asked for"

    def _missed_latency(self, latency_ms: float, good: list[Rung]) -> Iterator[str]:
        fastest = min(good, key=lambda rung: rung.latency.at(self.percentile))
        reached = fastest.latency.at(self.percentile)
        if reached > latency_ms:
            yield (
                f"latency: the fastest rung that counts takes {reached:.3g} ms at p{self.percentile:g}, at most "
                f"{latency_ms:g} ms asked for" + self._blocked()
            )

    def _blocked(self) -> str:
        """Return what keeps cheaper rungs from counting."""
        if self.quality_drop_max is None:
            return ""
        return f"; cheaper rungs lose more than {self.quality_drop_max:g} of quality"
