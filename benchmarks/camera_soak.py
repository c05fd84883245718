"""Whether a camera works for hours without growth: the slope of resident memory, lost receipts, the queue.

    python -m benchmarks.camera_soak MINUTES [BUNDLE]

A scene with a small moving thing comes at more frames a second than the model answers, so the queue is always full
and frames are dropped all the time. Resident memory is read every tenth of a second; its slope is a straight line
through the means of 20 equal spans, the first tenth left out, with a 95 % interval from Student's t. Ends with exit
code 1 when memory grows, a receipt is missing or the queue was longer than allowed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from numpy.typing import NDArray

import sanderling
from examples.scene_qa.clips import watch
from sanderling.camera import Camera
from sanderling.changes import Changes
from sanderling.engine import AnyArray
from sanderling.frames import Pulled
from sanderling.machine import describe

EVERY_S = 0.1
SPANS = 20
T_95 = 2.101
"""Student's t at 97.5 % for 18 degrees of freedom: 20 means less the line's two."""

DRAWN = 256
FRAMES_S = 400
QUEUE = 3
QUESTIONS = ("how many red things are there", "is there a red star", "what shape is the red thing")
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Soak:
    """What came of it; samples are seconds and resident MB, [n, 2]."""

    samples: NDArray[np.float64]
    delivered: int
    answered: int
    dropped: int
    waiting: int
    longest: int
    reused: int

    @property
    def missing(self) -> int:
        """Frames that were neither answered nor counted as dropped nor left in the queue."""
        return self.delivered - self.answered - self.dropped - self.waiting


def frames(drawn: Sequence[AnyArray], seconds: float, delivered: list[int]) -> Iterator[AnyArray]:
    """Yield frames at their rate for some seconds, again and again, counting them."""
    begun = monotonic()
    for number in count():
        ahead_s = begun + number / FRAMES_S - monotonic()
        if ahead_s > 0:
            sleep(ahead_s)
        if monotonic() - begun > seconds:
            return
        delivered[0] += 1
        yield drawn[number % len(drawn)]


def soak(session: sanderling.Session, seconds: float) -> Soak:
    """Return what a camera did for some seconds."""
    delivered = [0]
    samples = np.full((int(seconds / EVERY_S) + 1000, 2), -1.0)  # all of it now, so that the samples do not grow
    answered = dropped = longest = reused = taken = 0
    drawn = list(islice(watch(11, 8), DRAWN))
    begun = monotonic()
    source = Pulled(frames(drawn, seconds, delivered), live=True)
    with Camera(session, source, inputs={"text": QUESTIONS[0]}, queue=QUEUE, changes=Changes()) as camera:
        for answer in camera:
            answered += 1
            dropped += answer.dropped
            reused += bool(answer.receipt.reused)
            longest = max(longest, camera.waiting)
            camera.inputs = {"text": QUESTIONS[answered // 50 % len(QUESTIONS)]}
            now_s = monotonic() - begun
            if not taken or now_s - samples[taken - 1, 0] >= EVERY_S:
                samples[taken] = now_s, resident_mb()
                taken += 1
        waiting = camera.waiting
    return Soak(samples[:taken], delivered[0], answered, dropped, waiting, longest, reused)


def resident_mb() -> float:
    """Return this process's resident memory in MB."""
    return int(_STATM.read_text().split()[1]) * 4096 / 2**20


def slope(samples: NDArray[np.float64]) -> tuple[float, float]:
    """Return MB an hour and half the width of its 95 % interval, from seconds and MB, [n, 2]."""
    kept = samples[len(samples) // 10 :]
    means = np.stack([part.mean(axis=0) for part in np.array_split(kept, SPANS)])
    hours, mb = means[:, 0] / 3600, means[:, 1]
    centred = hours - hours.mean()
    rise = float(centred @ mb / (centred @ centred))
    left = mb - mb.mean() - rise * centred
    error = float(np.sqrt(left @ left / (SPANS - 2) / (centred @ centred)))
    return rise, T_95 * error


def main() -> None:
    """Print the figures."""
    minutes = float(sys.argv[1])
    path = Path(sys.argv[2] if len(sys.argv) > 2 else "out/scene_qa.sand")
    with sanderling.load(path) as session:
        found = soak(session, minutes * 60)
    rise, half = slope(found.samples)
    grows = rise - half > 0
    print(f"on {describe()['cpu']}, {minutes:g} minutes, {found.samples[-1, 1]:.0f} MB resident at the end")
    print(f"resident memory {rise:+.2f} MB an hour, 95 % interval {rise - half:+.2f} to {rise + half:+.2f}")
    print(f"{found.delivered} frames: {found.answered} answered ({found.reused} with re-use), {found.dropped} dropped")
    print(f"receipts missing {found.missing}; most frames waiting {found.longest} of {QUEUE}")
    if grows or found.missing or found.longest > QUEUE:
        sys.exit(1)


if __name__ == "__main__":
    main()
