"""The pass that offers number formats: every graph is also made in each of them.

Which format pays depends on the instruction set, so nothing is decided here: the compile measures each format of each
graph on the device and keeps the fastest that stays inside the quality goal; float32 is always a candidate and wins
when it wins (survey of transformer inference, Chitty-Venkata et al. 2023, quantization).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from sanderling import lookup
from sanderling.compile.number_format import NumberFormat
from sanderling.compile.pass_runner import PassResult
from sanderling.compile.work import Work
from sanderling.manifest import FLOAT32


@dataclass(frozen=True)
class Quantize:
    """Options of the pass.

    Attributes:
        formats: file names in compile/formats/, besides float32.
        components: to offer them for; all when empty.
        exclude: shell patterns of layers that stay in float32, "*fc2*" in every component or "vision:*fc2*" in one;
            a component in which one matches nothing does not get the format, and the compile says so.
        smooth: alpha of SmoothQuant for the formats that have it; 0 leaves outliers where they are.
        samples: calibration samples that ranges are learned from.
    """

    formats: tuple[str, ...] = ("int8_dynamic", "int8_static")
    components: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    smooth: float = 0.0
    samples: int = 32

    def requires(self, work: Work) -> str | None:
        """Return which option cannot be followed here."""
        return next(self._problems([part.component for part in work.adapted.parts]), None)

    def apply(self, work: Work) -> PassResult:
        """Return the work with the formats offered for every chosen component."""
        chosen = self.components or tuple(part.component for part in work.adapted.parts)
        known = [part.component for part in work.adapted.parts]
        formats = {**work.formats}
        for component in chosen:
            patterns = tuple(self._patterns(component, known))
            formats[component] = tuple(self._format(name, patterns) for name in self.formats)
        words = f"{', '.join(self.formats)} offered for {', '.join(chosen)}"
        return PassResult(replace(work, formats=formats, calibration_samples=self.samples), (words,))

    def ensures(self, work: Work) -> str | None:
        """Return the component that lacks an offered format."""
        wanted = self.components or tuple(part.component for part in work.adapted.parts)
        lacking = [c for c in wanted if [f.name for f in work.formats.get(c, ())] != list(self.formats)]
        return f"component {lacking[0]!r} lacks a format" if lacking else None

    def _problems(self, known: list[str]) -> Iterator[str]:
        """Yield what is wrong with the options, for a model of these components."""
        for name in self.components:
            if name not in known:
                yield f"no component is called {name!r}; this model has {', '.join(known)}"
        if not self.formats:
            yield "formats needs at least one entry"
        for name, times in Counter((*self.formats, *self.components)).items():
            if times > 1:
                yield f"{name!r} is listed twice"
        if FLOAT32 in self.formats:
            yield f"{FLOAT32} is always a candidate; leave it out of formats"
        if self.samples < 1:
            yield f"samples is {self.samples}, expected at least 1"
        if self.smooth and not any(_has(name, "smooth") for name in self.formats):
            yield f"none of {', '.join(self.formats)} has the option smooth; leave it at 0"

    def _patterns(self, component: str, known: list[str]) -> Iterator[str]:
        """Yield the patterns that are about a component; a prefix that is no component belongs to the node's name."""
        for pattern in self.exclude:
            owner, _, rest = pattern.partition(":")
            if owner == component and rest:
                yield rest
            elif owner not in known or not rest:
                yield pattern

    def _format(self, name: str, exclude: tuple[str, ...]) -> NumberFormat:
        found = lookup.find("format", name)
        options = {"exclude": exclude, "smooth": self.smooth}
        given = {option: value for option, value in options.items() if value and _has(name, option)}
        return cast(NumberFormat, replace(cast(Any, found), **given))


PASS = Quantize


def _has(name: str, option: str) -> bool:
    """Return whether a format has an option."""
    return option in {field.name for field in fields(lookup.find("format", name))}
