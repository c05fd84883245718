"""How good the source model is, in torch and before any pass: what everything after is held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sanderling.calibration.dataset import Data
from sanderling.calibration.profile import Outputs
from sanderling.calibration.quality import with_interval
from sanderling.compile.architecture import Adapted
from sanderling.compile.source_run import SourceRun
from sanderling.compile.work import GraphPlan, Work, begin
from sanderling.engine import AnyArray
from sanderling.ladder import Quality


@dataclass(frozen=True)
class SourceQuality:
    """The source model's answers, one per sample, and their quality; 1 where quality is agreement with them."""

    answers: tuple[Outputs, ...]
    quality: Quality


def is_lossy(adapted: Adapted, work: Work) -> bool:
    """Return whether answers may differ from the source model's: a pass changed a part, or a format is offered.

    A source of ready graphs has no torch model to judge; formats are then held against the graphs in float32.
    """
    if any(part.build is None for part in adapted.parts):
        return False
    return work.adapted.parts != adapted.parts or bool(work.formats)


def judge_source(adapted: Adapted, data: Data, progress: Callable[[str, int, int], None]) -> SourceQuality:
    """Return what the whole source model answers to every sample, and how good that is.

    Args:
        adapted: the model as it was given.
        data: samples and the metric.
        progress: told after every sample.
    """
    source = SourceRun(begin(adapted))
    settings = {lever.name: lever.maximum for lever in adapted.spec.levers}
    answers = []
    for number, sample in enumerate(data.samples, start=1):
        values: dict[str, AnyArray] = {}
        for spec in adapted.spec.inputs:
            values.update(source.prepared(spec, sample[spec.name]))
        for component in adapted.spec.components:
            values.update(source.run(component, GraphPlan(component.name), values, settings))
        answers.append({name: values[name] for name in adapted.spec.outputs})
        progress("judging the source model", number, len(data.samples))
    if data.score is None:
        scores = [1.0] * len(answers)
    else:
        scores = [float(data.score(a, expected)) for a, expected in zip(answers, data.expected, strict=True)]
    return SourceQuality(tuple(answers), with_interval(scores))
