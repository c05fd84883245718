"""Two processes that share the work end in the weights of one that does it all."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from tiny_distillation import SHARED, train_tiny

TESTS = Path(__file__).parents[2]


def start(rank: int, port: int, out: Path) -> subprocess.Popen[str]:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "OMP_NUM_THREADS": 1}
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    settings = {name: str(value) for name, value in {**ranks, **places}.items()}
    command = [sys.executable, "-m", "tiny_distillation", str(out)]
    return subprocess.Popen(command, cwd=TESTS, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True)


def test_two_processes_equal_one_with_twice_the_batches(tmp_path: Path) -> None:
    """Over gloo, every step of one process with two accumulated batches; within 2e-6, the order of sums in float32.

    The key biases cancel in softmax: their gradient is rounding noise, which Adam scales up.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(rank, port, tmp_path / "two") for rank in range(2)]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    one = train_tiny(tmp_path / "one", dataclasses.replace(SHARED, accumulate=2), pictures=4).state_dict()
    first, second = (torch.load(tmp_path / "two" / f"trained-{rank}.pt") for rank in range(2))
    for name, tensor in one.items():
        assert torch.equal(first[name], second[name]), name
        assert name.endswith("k_proj.bias") or torch.allclose(first[name], tensor, atol=2e-6), name
