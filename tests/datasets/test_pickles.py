from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.datasets.pickles import loads
from pipeline.support.errors import UserError


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_come_back(protocol: int) -> None:
    value: OrderedDict[str, Any] = OrderedDict(
        data=np.arange(12, dtype=np.uint8).reshape(3, 4),
        floats=np.array([1.5, -2.0], dtype=">f4"),
        words=np.array(["a", "bc"]),
        scalar=np.int64(7),
        labels=[1, 2.5, None, True, (b"\xff\x00", "é"), {1, 2}, frozenset([3]), 2j],
    )
    back = loads(pickle.dumps(value, protocol), "file")
    assert list(back) == list(value)
    for key in ("data", "floats", "words", "scalar"):
        assert np.array_equal(back[key], value[key])
    assert back["labels"] == value["labels"]


def test_an_old_pickle_of_python_2_is_read_as_latin1_without_warnings() -> None:
    # What CIFAR's files hold: protocol 2, numpy.core, str as bytes, dtype flags as integers.
    old = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87"
        b"Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff"
        b"\xff\xffK\x00tb\x89U\x02\xfe\x01tbU\x06labelsq\x08]q\t(K\x05K\x06eu."
    )
    back = loads(old, "file")
    assert back["data"].tolist() == [254, 1]
    assert back["labels"] == [5, 6]


class Hostile:
    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.args


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for hostile in (
        Hostile(os.system, f"touch {mark}"),
        Hostile(eval, f"open({str(mark)!r}, 'w')"),
        Hostile(open, mark),
    ):
        with pytest.raises(UserError, match=r"batch_1: the pickle names .*; refused"):
            loads(pickle.dumps({"data": [hostile]}, protocol), "batch_1")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["numpy\nload", "builtins\ngetattr", "numpy\nndarray.tofile", "builtins\n__import__"])
def test_nothing_else_of_a_known_module_is_reached(name: str) -> None:
    with pytest.raises(UserError, match="refused"):
        loads(b"\x80\x04c" + name.encode() + b"\n.", "file")


def test_an_array_of_objects_is_refused() -> None:
    with pytest.raises(UserError, match="holds an array of object"):
        loads(pickle.dumps(np.array([[1], "a"], dtype=object)), "file")


@pytest.mark.parametrize(
    "state",
    [
        (4, "<", None, ("a", "b"), {"a": (np.dtype("u1"), 0), "b": (np.dtype("u1"), 1000)}, 2, 1, 0, None),
        (3, "<", None, None, None, -1, -1, 63),  # the flags of an array of objects
    ],
)
def test_a_dtype_that_turns_into_another_is_refused(state: tuple[object, ...]) -> None:
    """A pickle names the kind first, and may then set fields and flags."""

    class Forged:
        def __reduce__(self) -> tuple[object, ...]:
            return np.dtype, ("u2", False, True), state

    held: list[object] = [{"data": (Forged(),)}]
    held.append(held)
    with pytest.raises(UserError, match="file: holds an array that is not of numbers or strings; refused"):
        loads(pickle.dumps(held, 2), "file")


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"no pickle", pickle.dumps(np.arange(100))[:-20]])
def test_a_damaged_pickle_is_one_line(data: bytes) -> None:
    with pytest.raises(UserError, match="train: damaged pickle"):
        loads(data, "train")
