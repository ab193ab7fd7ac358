"""Unpickling that cannot run code: numpy arrays, numbers, strings, bytes and plain containers only.

Some datasets (CIFAR, miniImageNet) exist as pickles alone. A pickle is a program that may call any function it names; this
unpickler resolves the handful of names that arrays are made of, and nothing else.
"""

from __future__ import annotations

import collections
import io
import pickle
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy._core.multiarray import _reconstruct, scalar

from pipeline.support.errors import UserError


def loads(data: bytes, name: str) -> Any:
    """`load` of bytes that are in memory."""
    return load(io.BytesIO(data), name)


def load(file: BinaryIO, name: str) -> Any:
    """The value of a pickle. name: of its file, for the error. Strings of Python 2 are read as latin1.

    Raises UserError for a damaged pickle and for one that names anything but arrays and plain containers.
    """
    try:
        return _Restricted(file, encoding="latin1").load()
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # a damaged pickle raises whatever the bytes happen to mean
        raise UserError(f"{name}: damaged pickle ({error!r}); fetch it again") from None


def _dtype(kind: Any, align: Any = False, copy: Any = False) -> np.dtype[Any]:
    """A dtype of plain numbers or strings. Old pickles hold 0 and 1 where numpy now wants a bool."""
    made: np.dtype[Any] = np.dtype(kind, align=bool(align), copy=bool(copy))
    if made.kind not in "biufcSU":
        raise UserError(f"holds an array of {made}, not of numbers or strings; refused")
    return made


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes for Python 2: as latin1 text, to be encoded when read."""
    if encoding != "latin1":
        raise UserError(f"encodes bytes as {encoding!r}; refused")
    return text.encode("latin1")


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> np.ndarray:
    """How protocol 5 writes an array; order K is C, then the axes changed."""
    array = np.frombuffer(buffer, dtype=dtype)
    return array.reshape(shape, order=order) if axis_order is None else array.reshape(shape).transpose(axis_order)


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): scalar for core in ("core", "_core")},
    **{
        (module, made.__name__): made
        for module in ("builtins", "__builtin__")
        for made in (bytearray, bytes, complex, frozenset, set)
    },
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The callable of that name, from the list above only."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UserError(f"the pickle names {module}.{name}, which is no array or container; refused") from None
