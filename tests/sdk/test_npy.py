"""Arrays in a bundle: equal arrays give equal bytes, and no other file is read."""

from __future__ import annotations

import io
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from tiny_bundle import WEIGHT

from sanderling.bundle import Bundle, array_bytes, read_array, write_bundle
from sanderling.errors import BundleError, InputError

DTYPES = ["float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 1)], ids=str)
def test_arrays_come_back(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.random.default_rng(2).integers(0, 2, shape), dtype=dtype)
    write_bundle(tmp_path / "x.sand", {"a.npy": array_bytes(array)})
    with Bundle.open(tmp_path / "x.sand") as bundle:
        found = read_array(bundle, "a.npy")
    np.testing.assert_array_equal(found, array, strict=True)
    np.testing.assert_array_equal(np.load(io.BytesIO(array_bytes(array)), allow_pickle=False), array, strict=True)


def test_memory_order_and_byte_order_do_not_change_the_bytes() -> None:
    assert array_bytes(np.asfortranarray(WEIGHT)) == array_bytes(WEIGHT)
    assert array_bytes(WEIGHT.astype(">f4")) == array_bytes(WEIGHT)
    assert array_bytes(np.stack([WEIGHT, WEIGHT], -1)[..., 0]) == array_bytes(WEIGHT)


@pytest.mark.parametrize(
    "array",
    [np.array([None]), np.array(["text"]), np.zeros(1, "c8"), np.zeros(1, "M8[s]"), np.zeros(1, ml_dtypes.bfloat16)],
    ids=lambda a: str(a.dtype),
)
def test_arrays_of_other_things_are_not_stored(array: np.ndarray) -> None:
    with pytest.raises(InputError, match="cannot store an array of"):
        array_bytes(array)


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


NPY = array_bytes(WEIGHT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(saved(np.array([print])), "not a .npy file of plain numbers", id="pickled object"),
        pytest.param(saved(np.asfortranarray(WEIGHT)), "not a .npy file of plain numbers", id="columns first"),
        pytest.param(NPY.replace(b"<f4", b">f4"), "never writes", id="big endian"),
        pytest.param(NPY.replace(b"(3, 4)", b"(3, 9)"), "takes 108 bytes, and it has 48", id="shape lies"),
        pytest.param(NPY.replace(b"(3, 4), }        ", b"(99999999999,), }"), "and it has 48", id="memory bomb"),
        pytest.param(NPY.replace(b"(3, 4)", b"(34, )"), "never writes", id="another spelling"),
        pytest.param(NPY.replace(b"(3, 4)", b"(,,12)"), "never writes", id="empty length"),
        pytest.param(NPY.replace(b"<f4", b"<f1"), "never writes", id="dtype that is none"),
        pytest.param(
            array_bytes(np.zeros((0, 1))).replace(b"(0, 1), }" + b" " * 40, b"(0, 1" + b"0" * 40 + b"), }"),
            "no possible shape",
            id="axis too long",
        ),
        pytest.param(NPY[:-1], "takes 48 bytes, and it has 47", id="cut short"),
        pytest.param(NPY + b"x", "takes 48 bytes, and it has 49", id="too long"),
        pytest.param(b"", "not a .npy file of plain numbers", id="empty"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    write_bundle(tmp_path / "x.sand", {"a.npy": data})
    with Bundle.open(tmp_path / "x.sand") as bundle, pytest.raises(BundleError, match=message) as caught:
        read_array(bundle, "a.npy")
    assert "x.sand: array 'a.npy'" in str(caught.value)
