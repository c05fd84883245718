from __future__ import annotations

import pytest

from sanderling.engine import OpenOptions, opener, usable_cores
from sanderling.errors import InputError, UnknownNameError


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_threads_than_one_are_refused(threads: int) -> None:
    with pytest.raises(InputError, match=f"threads is {threads}, expected at least 1"):
        OpenOptions(threads=threads)


def test_threads_are_the_usable_cores_by_default() -> None:
    assert OpenOptions().threads == usable_cores() >= 1


@pytest.mark.parametrize("name", ["tensorflow", "../onnxruntime", "os", "onnxruntime.evil", ""])
def test_only_files_of_targets_are_ever_imported(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown target"):
        opener(name)
