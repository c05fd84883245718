"""Fitting the cost model, against truths that are known."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_bundle import MODEL as TOY
from toy_bundle import toy_measured, write_toy

from sanderling.bundle import Bundle
from sanderling.calibration.cost import fit_cost, fit_curve, monotone
from sanderling.ladder import Cost, Quality, Rung
from sanderling.manifest import SCHEMA, Golden, Graph, Manifest, Provenance
from sanderling.spec import ArrayInput, Component, Lever, Loop, ModelSpec, TensorSpec


def tensor(name: str) -> TensorSpec:
    return TensorSpec(name, "float32", ("batch", 4))


SPEC = ModelSpec(
    "talker",
    (ArrayInput("image", "float32", ("batch", 4)), ArrayInput("sound", "float32", ("batch", 4))),
    (
        Component("see", (tensor("image"),), (tensor("seen"),)),
        Component("hear", (tensor("sound"),), (tensor("heard"),)),
        Component("say", (tensor("seen"), tensor("heard")), (tensor("heard_again"),), Loop("tokens.out", ())),
    ),
    (
        Lever("tokens.image", "tokens", 1, 64, 64),
        Lever("tokens.audio", "tokens", 1, 32, 32),
        Lever("tokens.out", "tokens", 1, 16, 16),
    ),
)
MANIFEST = Manifest(
    SCHEMA,
    SPEC,
    (
        Graph("see", "full", (), "", None, 0, "", ()),
        Graph("see", "top@0", ("tokens.image",), "top", "input", 0, "", ()),
        Graph("hear", "full", (), "", None, 0, "", ()),
        Graph("hear", "top@0", ("tokens.audio",), "top", "input", 0, "", ()),
        Graph("say", "full", (), "", None, 0, "", ()),
    ),
    Golden((), ()),
    Provenance("", "", "{}", {}),
)


def truth(image: int, audio: int, out: int) -> dict[str, float]:
    """Milliseconds of each component; the last pays for every token it is given, each time it speaks."""
    return {
        "see": 2 + 0.1 * image + 1e-3 * image**2,
        "hear": 1 + 0.2 * audio,
        "say": out * (0.2 + 0.01 * (image + audio)),
    }


def measured(image: int, audio: int, out: int, rng: np.random.Generator, noise: float) -> Rung:
    graphs = {"see": "top@0" if image < 64 else "full", "hear": "top@0" if audio < 32 else "full", "say": "full"}
    ms = {name: value * (1 + noise * rng.standard_normal()) for name, value in truth(image, audio, out).items()}
    parts = {name: Cost(v, 1.05 * v, 1.2 * v, 50) for name, v in ms.items()}
    whole = sum(ms.values()) + 0.3
    settings = {"tokens.image": image, "tokens.audio": audio, "tokens.out": out}
    latency = Cost(whole, 1.05 * whole, 1.15 * whole, 50)
    return Rung(settings, graphs, latency, parts, 100 + image, Quality(1, 1, 1, 50), whole / 100)


GRID = list(itertools.product((8, 16, 32, 48, 64), (4, 8, 16, 32), (2, 4, 8, 16)))


def all_measured(noise: float) -> list[Rung]:
    rng = np.random.default_rng(0)
    return [measured(*place, rng, noise) for place in GRID]


def test_settings_nobody_measured_are_predicted_within_the_error_it_states() -> None:
    model = fit_cost(MANIFEST, all_measured(0.02))
    assert model is not None
    assert model.error is not None
    assert model.error <= 0.15
    assert model.held_out > 20
    rng = np.random.default_rng(1)
    graphs = {"see": "top@0", "hear": "top@0", "say": "full"}
    off = []
    for image, audio, out in rng.integers([9, 5, 3], [48, 16, 16], (200, 3)):
        settings = {"tokens.image": int(image), "tokens.audio": int(audio), "tokens.out": int(out)}
        found = model.predict(settings, graphs)
        assert found is not None
        whole = sum(truth(int(image), int(audio), int(out)).values()) + 0.3
        off.append(abs(found.latency.p50_ms - whole) / whole)
        assert found.memory_mb == pytest.approx(100 + image, rel=0.02)
        assert found.energy_j == pytest.approx(whole / 100, rel=0.1)
    assert np.percentile(off, 90) <= model.error


def test_predictions_never_fall_as_a_lever_rises() -> None:
    model = fit_cost(MANIFEST, all_measured(0.2))
    assert model is not None
    for lever, rising in (("tokens.image", range(8, 49)), ("tokens.audio", range(4, 17)), ("tokens.out", range(2, 17))):
        settings = {"tokens.image": 20, "tokens.audio": 10, "tokens.out": 7}
        found = [model.predict(settings | {lever: v}, {"see": "top@0", "hear": "top@0", "say": "full"}) for v in rising]
        for take in ("p50_ms", "p90_ms", "p99_ms"):
            costs = [getattr(f.latency, take) for f in found if f is not None]
            assert len(costs) == len(rising)
            assert costs == sorted(costs)


def test_a_component_depends_on_its_own_levers_and_on_those_that_feed_it() -> None:
    model = fit_cost(MANIFEST, all_measured(0.0))
    assert model is not None
    levers = {(p.component, p.graph): p.p50_ms.levers for p in model.parts}
    assert levers == {
        ("see", "full"): (),
        ("see", "top@0"): ("tokens.image",),
        ("hear", "full"): (),
        ("hear", "top@0"): ("tokens.audio",),
        ("say", "full"): ("tokens.image", "tokens.audio", "tokens.out"),
    }


def test_noise_makes_the_stated_error_larger() -> None:
    errors = []
    for noise in (0.0, 0.1, 0.3):
        model = fit_cost(MANIFEST, all_measured(noise))
        assert model is not None
        errors.append(model.error)
    assert errors == sorted(errors)  # type: ignore[type-var]  # none of them is None
    assert errors[0] != errors[-1]


def test_without_a_meter_nothing_is_made_up() -> None:
    model = fit_cost(MANIFEST, [replace(rung, memory_mb=None, energy_j=None) for rung in all_measured(0.0)])
    assert model is not None
    assert all(whole.memory_mb is None and whole.energy_j is None for whole in model.wholes)


def test_too_few_measurements_state_no_error() -> None:
    assert fit_cost(MANIFEST, []) is None
    one = fit_cost(MANIFEST, all_measured(0.0)[:1])
    assert one is not None
    assert (one.error, one.held_out) == (None, 0)


def test_a_measured_cost_of_zero_divides_nothing() -> None:
    zero = Cost(0.0, 0.0, 0.0, 5)
    rungs = [replace(r, latency=zero, components=dict.fromkeys(r.components, zero)) for r in all_measured(0.0)]
    model = fit_cost(MANIFEST, rungs)
    assert model is not None
    assert model.error is None


def off_by(values: NDArray[np.float64]) -> float:
    """Half of the largest fall from a place to one at or after it on every axis, by brute force.

    No never-falling function comes closer: the two ends of that fall have to meet somewhere between.
    """
    places = list(np.ndindex(values.shape))
    pairs = [(p, q) for p in places for q in places if all(a <= b for a, b in zip(p, q, strict=True))]
    return max(float(values[p] - values[q]) for p, q in pairs) / 2


@pytest.mark.parametrize("shape", [(1,), (9,), (4, 5), (3, 2, 4)], ids=str)
def test_monotone_moves_values_no_more_than_any_monotone_function_must(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.random(shape)
        found = monotone(values)
        for axis in range(len(shape)):
            assert (np.diff(found, axis=axis) >= 0).all()
        assert np.abs(found - values).max() == pytest.approx(off_by(values))
        np.testing.assert_array_equal(monotone(found), found)


def test_a_combination_that_was_not_measured_lies_between_its_neighbours() -> None:
    curve = fit_curve(("a", "b"), [((1, 1), 1.0), ((1, 2), 2.0), ((2, 2), 6.0), ((1, 2), 2.0)])
    assert curve.at({"a": 2, "b": 1}) == pytest.approx((1.0 + 6.0) / 2)
    assert curve.at({"a": 1, "b": 2}) == 2.0


def test_a_bundle_s_own_ladder_can_be_fitted(tmp_path: Path) -> None:
    with Bundle.open(write_toy(tmp_path / "toy.sand")) as bundle:
        model = fit_cost(bundle.manifest(), toy_measured(((2, 1.0, 0.7), (4, 2.0, 0.9), (6, 3.0, 0.95))).ladder.rungs)
    assert model is not None
    graphs = {c.name: "full" for c in TOY.components} | {"look": "top@0"}
    found = model.predict({"tokens": 3}, graphs)
    assert found is not None
    assert found.latency.p50_ms == pytest.approx(1.5, rel=0.2)
