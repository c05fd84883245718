from __future__ import annotations

from sanderling.calibration.pareto import RUNG, build_ladder
from sanderling.ladder import Cost, Quality, Rung


def rung(graph: str, tokens: int, p50: float, quality: float) -> Rung:
    cost = Cost(p50, p50, p50, 10)
    return Rung({"tokens.image": tokens}, {"vision": graph}, cost, {}, None, Quality(quality, quality, quality, 10))


FULL = rung("full", 16, 10.0, 0.95)


def test_dominated_and_slow_settings_are_refused_with_both_figures() -> None:
    rungs = [FULL, rung("saliency@0", 8, 6.0, 0.94), rung("random@0", 8, 6.5, 0.80), rung("merge@0", 12, 11.0, 0.95)]
    ladder, trials = build_ladder(rungs, "accuracy")
    assert [r.graphs["vision"] for r in ladder.rungs] == ["saliency@0", "full"]
    verdicts = {t.rung.graphs["vision"]: t.verdict for t in trials}
    assert verdicts["saliency@0"] == verdicts["full"] == RUNG
    assert "6.00 ms, 0.940 against 6.50 ms, 0.800" in verdicts["random@0"]
    assert "11.00 ms against 10.00 ms" in verdicts["merge@0"]


def test_the_full_model_stays_on_top_when_a_cheaper_rung_scores_higher() -> None:
    ladder, _ = build_ladder([FULL, rung("saliency@0", 8, 6.0, 0.97)], "accuracy")
    assert [r.graphs["vision"] for r in ladder.rungs] == ["saliency@0", "full"]


def test_a_model_without_levers_has_one_rung() -> None:
    ladder, trials = build_ladder([FULL], "accuracy")
    assert ladder.rungs == (FULL,)
    assert [t.verdict for t in trials] == [RUNG]


def test_a_rung_hardly_cheaper_than_a_better_one_is_left_out() -> None:
    rungs = [FULL, rung("random@0", 2, 1.0, 0.5), rung("saliency@0", 2, 1.04, 0.9), rung("saliency@0", 4, 1.2, 0.94)]
    ladder, trials = build_ladder(rungs, "accuracy")
    assert [(r.graphs["vision"], r.settings["tokens.image"]) for r in ladder.rungs] == [
        ("saliency@0", 2),
        ("saliency@0", 4),
        ("full", 16),
    ]
    assert "saliency@0 tokens.image=2 is as fast and as good" in trials[1].verdict


def test_a_chain_of_close_rungs_keeps_its_ends_and_what_is_clearly_cheaper() -> None:
    chain = [rung("saliency@0", n, 1.04**n, 0.5 + n / 100) for n in range(1, 5)]
    ladder, trials = build_ladder([FULL, *chain], "accuracy")
    assert [r.settings["tokens.image"] for r in ladder.rungs] == [2, 4, 16]
    assert sum(t.verdict == RUNG for t in trials) == 3
