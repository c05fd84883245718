from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_bundle import toy_measured, write_toy

import sanderling
from sanderling.budget import Budget
from sanderling.errors import InputError, ReceiptsLostError
from sanderling.ladder import Ladder
from sanderling.receipts import ReceiptLog, replay
from sanderling.session import Session

INPUTS: dict[str, Any] = {"picture": np.ones((1, 8), np.float32), "words": np.ones((1, 2), np.float32)}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "toy.sand")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def some_calls(session: Session) -> None:
    """Calls of several budgets, components and rules, of which some are as slow as if the device had been throttled."""
    rules: list[Any] = [None, "degrade", "last_good"]
    for number in range(60):
        limit = (0.02, 0.05, 1.2, 9.0)[number % 4]
        budget = Budget(latency_ms=limit, otherwise="cheapest", on_miss=rules[number % 3])
        inputs = INPUTS if number % 5 else {"picture": INPUTS["picture"]}
        slow = replace(session.at({}), typical_ms=1e-3) if 20 <= number < 24 else None
        session.run(inputs, budget, slow)
    session.run(INPUTS)


def test_every_call_is_a_line_with_what_its_receipt_says(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    with ReceiptLog(path) as log, sanderling.load(toy, receipts=log) as session:
        receipts = [session.run(INPUTS, Budget(latency_ms=ms)).receipt for ms in (1.2, 9.0, 1.2)]
    lines = lines_of(path)
    assert [line["is"] for line in lines] == ["start", "budget", "plan", "call", "budget", "plan", "call", "call"]
    calls = [line for line in lines if line["is"] == "call"]
    for line, receipt in zip(calls, receipts, strict=True):
        for name in ("call", "spent_ms", "components_ms", "met", "miss", "misses", "slowdown", "prepare_ms"):
            assert line[name] == getattr(receipt, name)
        assert line["kept"] == {"tokens": list(receipt.kept["tokens"])}
        assert line["reason"] == receipt.plan.reason
        assert line["reduced"] == [str(entry) for entry in receipt.reduced]
    assert lines[1]["budget"]["latency_ms"] == 1.2


def test_a_session_without_a_log_writes_nothing(toy: Path, tmp_path: Path) -> None:
    with ReceiptLog(tmp_path / "r.jsonl"), sanderling.load(toy) as session:
        session.run(INPUTS)
    assert (tmp_path / "r.jsonl").read_text() == ""


def test_replay_derives_the_same_plans(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    promised = toy_measured(((2, 0.01, 0.7), (4, 0.02, 0.9), (8, 0.04, 1.0)))
    for _ in range(2):
        with ReceiptLog(path) as log, sanderling.Bundle.open(toy) as bundle:
            session = Session(bundle, measured=promised, receipts=log)
            some_calls(session)
    found = replay(path, promised.ladder)
    assert [entry.call for entry in found] == [*range(1, 62), *range(1, 62)]
    assert all(entry.derived == entry.recorded for entry in found)
    assert len({str(entry.derived.settings) for entry in found}) > 1


def test_replay_finds_a_record_that_was_changed(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    with ReceiptLog(path) as log, sanderling.load(toy, receipts=log) as session:
        for _ in range(10):
            session.run(INPUTS, Budget(latency_ms=9, otherwise="cheapest"))
    changed = [line | ({"learned_ms": 400.0} if line["is"] == "call" else {}) for line in lines_of(path)]
    path.write_text("\n".join(json.dumps(line) for line in changed))
    found = replay(path, toy_measured().ladder)
    assert any(entry.derived != entry.recorded for entry in found)


def test_a_full_disk_stops_no_call_and_is_told_at_the_end(toy: Path) -> None:
    log = ReceiptLog("/dev/full")
    with sanderling.load(toy, receipts=log) as session:
        for _ in range(5):
            assert session.run(INPUTS).outputs["read"].item() == 2.0
    assert log.lost == 1 + 3 * 5, "the start, and call, budget and plan again and again, as none got through"
    with pytest.raises(ReceiptsLostError, match=r"16 lines of receipts could not be written to /dev/full"):
        log.close()
    log.close()


def test_what_was_lost_is_told_by_the_next_line(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    path = tmp_path / "receipts.jsonl"
    write = os.write
    with ReceiptLog(path) as log, sanderling.load(toy, receipts=log) as session:
        session.run(INPUTS)
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:20]))  # as when the last block is full
        session.run(INPUTS)
        session.run(INPUTS)
        monkeypatch.setattr(os, "write", write)
        session.run(INPUTS)
    told = [json.loads(line) for line in path.read_text().splitlines() if '"lost"' in line and line[-1] == "}"]
    assert told == [{"is": "lost", "lines": 4}]
    assert log.lost == 4
    assert [entry.call for entry in replay(path, toy_measured().ladder)] == [1, 4]


def test_two_threads_on_one_session_write_whole_lines(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    with ReceiptLog(path) as log, sanderling.load(toy, receipts=log) as session:
        budgets = [Budget(latency_ms=9, otherwise="cheapest"), Budget(latency_ms=1.2, otherwise="cheapest")]
        threads = [threading.Thread(target=lambda b=b: [session.run(INPUTS, b) for _ in range(100)]) for b in budgets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    calls = [line["call"] for line in lines_of(path) if line["is"] == "call"]
    assert calls == list(range(1, 201))
    assert all(entry.derived == entry.recorded for entry in replay(path, toy_measured().ladder))


def test_files_that_are_no_record_are_refused(toy: Path, tmp_path: Path) -> None:
    ladder = toy_measured().ladder
    with pytest.raises(InputError, match="cannot be written"):
        ReceiptLog(tmp_path / "absent" / "r.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        replay(tmp_path / "absent.jsonl", ladder)
    path = tmp_path / "r.jsonl"
    for text, message in (
        ("{}\n", "line 1 is no receipt"),
        ("no\n{}\n", "line 1 is not JSON"),
        ("[1]\n", "line 1 is list, expected an object"),
        ('{"is":"call","budget":0}\n', "line 1 is no receipt"),
        ('{"is":"budget","number":0,"budget":{"latency_ms":-1}}\n', "line 1 is no receipt"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            replay(path, ladder)
    with ReceiptLog(tmp_path / "s.jsonl") as log, sanderling.load(toy, receipts=log):
        pass
    with pytest.raises(InputError, match="records a ladder"):
        replay(tmp_path / "s.jsonl", Ladder("accuracy", ladder.rungs[:1]))
