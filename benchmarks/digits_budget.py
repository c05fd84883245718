"""Accuracy against budget on image + sound digits: the planner's split over both levers against simpler ones.

    python -m benchmarks.digits_budget FOLDER

FOLDER holds handwritten_digits.npz and spoken_digits.npz. Compiles `examples/digits`, then asks fresh pairs of the test
splits under several deadlines, shares of the full median. At each deadline, by medians measured while compiling:

    planner      what `Session.plan` chooses, any split of the two levers
    equal split  the best setting that keeps the same share of both modalities
    image only   as many image tokens as fit when nothing is heard and the audio encoder does not run
    sound only   the same with nothing to see

Every way answers every pair, in turn. The encoder of a hidden modality is still called, at the lowest measured setting,
because the fusion reads what it writes; its time is taken off, so that a single modality pays for no second one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

import sanderling
from examples.digits.architecture import adapt
from examples.digits.data import from_corpus, is_right, to_sample
from examples.digits.pairs import SNR_DB, Corpus, Pair, draw_pair, load_corpus, no_picture, no_sound
from sanderling.budget import Plan
from sanderling.calibration.quality import with_interval
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import from_mapping
from sanderling.errors import BudgetTooSmallError
from sanderling.ladder import Rung
from sanderling.machine import describe
from sanderling.progress import ProgressLine
from sanderling.tables import table

FRESH_SEED = 3_000_047
"""Neither training nor the compile's evaluation draws from this seed."""

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5)
FRACTIONS = (0.75, 0.6, 0.45, 0.3, 0.2, 0.12)
RULE = "saliency@0"
"""The graph that equal split and single modalities use; the planner may use any."""

IMAGE, AUDIO = ("vision", "tokens.image"), ("audio", "tokens.audio")
"""Component and lever of each modality."""


@dataclass
class Way:
    """One way of answering under one deadline, and what came of it; `hidden` is the component that gets nothing."""

    label: str
    share: float
    plan: Plan | None
    hidden: str = ""
    spent_ms: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)

    def ask(self, session: sanderling.Session, pair: Pair) -> None:
        """Answer one pair."""
        if self.plan is None:
            return
        picture = no_picture() if self.hidden == "vision" else pair.picture
        waveform = no_sound() if self.hidden == "audio" else pair.waveform
        answer = session.run(to_sample(Pair(picture, waveform, pair.digit)), plan=self.plan)
        self.spent_ms.append(answer.receipt.spent_ms - answer.receipt.components_ms.get(self.hidden, 0.0))
        self.right.append(is_right(answer.outputs, pair.digit))

    def cells(self, full_ms: float) -> list[str]:
        """Return the row as text."""
        deadline = f"{self.share * full_ms:.2f}"
        if self.plan is None:
            return [deadline, self.label, "-", "-", "-", "none fits", "-"]
        tokens = [
            "-" if self.hidden == component else str(self.plan.settings[lever]) for component, lever in (IMAGE, AUDIO)
        ]
        quality = with_interval(self.right)
        return [
            deadline,
            self.label,
            *tokens,
            f"{median(self.spent_ms):.2f}",
            f"{quality.score:.1%}",
            f"{quality.low:.1%} to {quality.high:.1%}",
        ]


def ways(session: sanderling.Session, share: float) -> list[Way]:
    """Return the four ways to answer within a share of the full model's median."""
    rungs = [trial.rung for trial in session.measured.trials]
    limit_ms = share * rungs[0].latency.p50_ms
    return [
        Way("planner", share, planned(session, limit_ms)),
        Way("equal split", share, equal_split(session, rungs, limit_ms)),
        Way("image only", share, alone(session, rungs, limit_ms, IMAGE, AUDIO), hidden="audio"),
        Way("sound only", share, alone(session, rungs, limit_ms, AUDIO, IMAGE), hidden="vision"),
    ]


def planned(session: sanderling.Session, limit_ms: float) -> Plan | None:
    """Return the session's own plan for a median, or None where no rung fits."""
    try:
        return session.plan(sanderling.Budget(latency_ms=limit_ms, percentile=50))
    except BudgetTooSmallError:
        return None


def equal_split(session: sanderling.Session, rungs: Sequence[Rung], limit_ms: float) -> Plan | None:
    """Return the best measured setting that keeps the same share of both modalities and fits, or None."""
    levers = [session.manifest.model.lever(name) for _, name in (IMAGE, AUDIO)]
    shares = [1.0, *FRACTIONS]
    equal = {tuple(round(lever.maximum * share) for lever in levers) for share in shares}
    fitting = [
        rung
        for rung in rungs
        if tuple(rung.settings[lever.name] for lever in levers) in equal
        and {rung.graphs[component] for component, _ in (IMAGE, AUDIO)} in ({RULE}, {"full"})
        and rung.latency.p50_ms <= limit_ms
    ]
    return _plan(session, max(fitting, key=lambda rung: rung.quality.score)) if fitting else None


def alone(
    session: sanderling.Session, rungs: Sequence[Rung], limit_ms: float, shown: tuple[str, str], hidden: tuple[str, str]
) -> Plan | None:
    """Return the measured setting with the most tokens of one modality that fits without the other's encoder."""
    least = min(rung.settings[hidden[1]] for rung in rungs)
    fitting = [
        rung
        for rung in rungs
        if rung.settings[hidden[1]] == least
        and rung.graphs[hidden[0]] == RULE
        and rung.graphs[shown[0]] in (RULE, "full")
        and rung.latency.p50_ms - rung.components[hidden[0]].p50_ms <= limit_ms
    ]
    return _plan(session, max(fitting, key=lambda rung: rung.settings[shown[1]])) if fitting else None


def _plan(session: sanderling.Session, rung: Rung) -> Plan:
    return session.at(rung.settings, rung.graphs)


def answer_all(session: sanderling.Session, every: Sequence[Way], corpus: Corpus, count: int) -> None:
    """Ask every way every pair, in turn, so that a slow moment of the machine falls on all of them."""
    progress = ProgressLine()
    for number in range(count):
        pair = draw_pair(corpus, np.random.default_rng((FRESH_SEED, number)))
        for way in every:
            way.ask(session, pair)
        progress("answering fresh pairs", number + 1, count)


def verdict(every: Sequence[Way]) -> str:
    """Return where the planner is below another way, or that it is below none."""
    below = [
        f"{way.label} at {way.share:.0%}"
        for planner in every
        if planner.label == "planner" and planner.right
        for way in every
        if way.share == planner.share and way.right and np.mean(way.right) > np.mean(planner.right)
    ]
    return f"the planner is below: {', '.join(below)}" if below else "the planner is on or above every other way"


def main() -> None:
    """Compile, plan and answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the two .npz files")
    parser.add_argument("--out", type=Path, default=Path("out/digits.sand"))
    parser.add_argument("--pairs", type=int, default=1000, help="fresh pairs to answer")
    parser.add_argument("--measured", type=int, default=400, help="pairs to measure on while compiling")
    options = parser.parse_args()
    corpus = load_corpus(options.data, "test")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    recipe = from_mapping(
        {"passes": [{"reduce": {"reducers": ["saliency", "random"], "layers": [0], "fractions": list(FRACTIONS)}}]}
    )
    evaluation = from_corpus(corpus, options.measured)
    compile_model(adapt(), options.out, evaluation=evaluation, recipe=recipe, progress=ProgressLine())
    with sanderling.load(options.out) as session:
        full = session.measured.trials[0].rung
        full_ms = full.latency.p50_ms
        every = [Way("full model", 1.0, session.at({})), *(way for share in SHARES for way in ways(session, share))]
        answer_all(session, every, corpus, options.pairs)
    print(f"\non {describe()['cpu']}; sound at {SNR_DB:g} dB; {options.pairs} fresh pairs, each asked in every way")
    header = ["deadline ms", "answered by", "image tokens", "audio tokens", "p50 ms", "accuracy", "95 % interval"]
    print(table(header, [way.cells(full_ms) for way in every]))
    print(verdict(every))


if __name__ == "__main__":
    main()
