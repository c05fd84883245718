"""Says what works on this machine: every target opens and runs a small graph, or says why it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sanderling import lookup, machine
from sanderling.device import Device
from sanderling.engine import Opener, OpenOptions, opener
from sanderling.errors import SanderlingError, UnsupportedError

SMALL_GRAPH = bytes.fromhex(
    "08073a80010a110a01780a017712017022064d61744d756c0a0e0a01700a016212017922034164641201742a1b08020802100142"
    "01774a100000803f0000004000004040000080402a1108021001420162" + "4a08000020410000a0415a130a0178120e0a0c08011208"
    "0a0208020a02080262130a0179120e0a0c080112080a0208020a02080242040a00100d"
)
"""A serialised ONNX model, y = x @ [[1, 2], [3, 4]] + [10, 20] on float32 [2, 2], IR version 7 and opset 13.

Made once with `onnx.helper.make_model`, because the device has no onnx library to make it with.
"""

_INPUT = np.array([[1, 0], [2, -1]], dtype=np.float32)
_ANSWER = np.array([[11, 22], [9, 20]], dtype=np.float32)


@dataclass(frozen=True)
class Row:
    """What became of one target.

    Attributes:
        name: file name in `targets/`.
        status: PASS when it opened and ran a graph here and the answer was right.
        reason: why not, and what to do about it; "" for PASS.
        caution: what has not been shown about the target yet, here or anywhere; "" for nothing.
    """

    name: str
    status: Literal["PASS", "FAIL"]
    reason: str
    caution: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What works here.

    Attributes:
        machine: what the machine says of itself, as `machine.describe`.
        device: the device file that a compile here chooses, or None when none fits.
        rows: one per target.
        devices: every device file that fits, the most specific first.
        outdated: one sentence for every engine that is older than the chosen device file supports.
    """

    machine: dict[str, str]
    device: str | None
    rows: tuple[Row, ...]
    devices: tuple[Device, ...] = ()
    outdated: tuple[str, ...] = ()


def diagnose() -> Diagnosis:
    """Return what the machine is and which targets work on it, after trying each."""
    rows = tuple(_examine(target) for target in lookup.names("target"))
    devices, chosen = machine.fitting_devices(), _device()
    outdated = [told for device in devices if device.name == chosen for told in machine.outdated(device)]
    return Diagnosis(machine.describe(), chosen, rows, devices, tuple(outdated))


def _device() -> str | None:
    try:
        return machine.fitting_device()
    except UnsupportedError:
        return None


def _examine(name: str) -> Row:
    target = opener(name)
    reason = target.missing() or _trial(target)
    return Row(name, "FAIL" if reason else "PASS", reason, target.caution)


def _trial(target: Opener) -> str:
    """Return what is wrong with a target that is installed, or ""."""
    try:
        engine = target.open(SMALL_GRAPH, OpenOptions(threads=1, processor=target.processor))
        answer = engine.run({"x": _INPUT})["y"]
    except (SanderlingError, RuntimeError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    if not np.array_equal(answer, _ANSWER):
        return f"answered {answer.tolist()}, expected {_ANSWER.tolist()}; reinstall the engine"
    return ""
