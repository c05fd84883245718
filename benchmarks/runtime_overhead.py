"""What the runtime itself costs: a session's call over the bare engine call, planning, importing, the wheel.

python -m benchmarks.runtime_overhead [BUNDLE]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

import sanderling
from sanderling.calibration.compare import golden_sample
from sanderling.calibration.profile import in_blocks
from sanderling.engine import Engine
from sanderling.machine import describe
from sanderling.manifest import FULL
from sanderling.opening import open_graph
from sanderling.prepare import Preparer

ROUNDS = 400


def open_engines(session: sanderling.Session) -> dict[str, Engine]:
    """Return component -> its full graph's engine, opened outside the session."""
    placements = session.measured.placements
    return {
        component: open_graph(session.bundle, session.manifest.graph(component, FULL), graphs[FULL])
        for component, graphs in placements.items()
    }


def call_overhead(session: sanderling.Session) -> tuple[float, float]:
    """Return median microseconds of the bare engine calls and of `Session.run`, taking turns in blocks.

    The picture is prepared before; the text is tokenized inside `Session.run`, which the bare calls are spared.
    """
    sample = golden_sample(session.bundle)
    preparer = Preparer(session.manifest.model, session.bundle)
    prepared = preparer.values(sample)
    inputs = sample | {"image": prepared["pixel_values"]}
    components = session.manifest.model.components
    engines, plan = open_engines(session), session.at({})
    spent: tuple[list[float], list[float]] = ([], [])
    for place, _, counts in in_blocks(2, ROUNDS):
        begun = perf_counter()
        if place == 0:
            values = dict(prepared)
            for component in components:
                values.update(engines[component.name].run({t.name: values[t.name] for t in component.inputs}))
        else:
            session.run(inputs, plan=plan)
        if counts:
            spent[place].append((perf_counter() - begun) * 1e6)
    return median(spent[0]), median(spent[1])


def planning_us(session: sanderling.Session) -> float:
    """Return median microseconds of planning for a budget that is not the first of its percentile."""
    full = session.measured.ladder.rungs[-1].latency.p50_ms
    budgets = [sanderling.Budget(latency_ms=full * s, otherwise="cheapest") for s in np.linspace(0.3, 1.2, 50)]
    spent = []
    for budget in budgets * 20:
        begun = perf_counter()
        session.plan(budget)
        spent.append((perf_counter() - begun) * 1e6)
    return median(spent)


def import_ms() -> tuple[float, float]:
    """Return median milliseconds to import numpy, and sanderling with it, each in fresh processes, in turn."""
    spent: dict[str, list[float]] = {"numpy": [], "sanderling": []}
    for _ in range(15):
        for name, times in spent.items():
            code = f"import time; t = time.perf_counter(); import numpy, {name}; print(time.perf_counter() - t)"
            out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            times.append(float(out.stdout) * 1e3)
    return median(spent["numpy"]), median(spent["sanderling"])


def wheel_kb() -> float:
    """Return the size of the wheel in kB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            ".",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            folder,
        ]
        subprocess.run(command, check=True, capture_output=True)
        return next(Path(folder).glob("*.whl")).stat().st_size / 1e3


def main() -> None:
    """Print the figures."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "out/scene_qa.sand")
    print(f"on {describe()['cpu']}")
    with sanderling.load(path) as session:
        bare, ours = call_overhead(session)
        print(f"engine calls {bare:.0f} us, Session.run {ours:.0f} us: {ours - bare:+.0f} us ({ours / bare - 1:+.1%})")
        print(f"planning {planning_us(session):.1f} us")
    numpy_ms, all_ms = import_ms()
    print(f"import numpy {numpy_ms:.0f} ms, with sanderling {all_ms:.0f} ms: {all_ms - numpy_ms:+.0f} ms")
    print(f"wheel {wheel_kb():.0f} kB")


if __name__ == "__main__":
    main()
