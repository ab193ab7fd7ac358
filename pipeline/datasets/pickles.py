"""Read pickles without running their code: NumPy arrays, numbers, strings, bytes and plain containers only.

Some datasets (CIFAR, miniImageNet) are published only as pickles. A pickle is a program that may call any function it
names; this unpickler resolves the handful of names that arrays and containers need, and nothing else.
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
    """Read a pickle from bytes in memory; see `load`."""
    return load(io.BytesIO(data), name)


def load(file: BinaryIO, name: str) -> Any:
    """Read a pickle. Strings written by Python 2 are decoded as Latin-1.

    Args:
        file: The open file.
        name: The name of the file, for error messages.

    Raises:
        UserError: if the pickle is damaged, or names anything but arrays and plain containers.
    """
    try:
        held = _Restricted(file, encoding="latin1").load()
        _refuse_odd(held)
        return held
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # a damaged pickle can raise anything, depending on what its bytes happen to mean
        raise UserError(f"{name}: damaged pickle ({error!r}); fetch it again") from None


def _dtype(kind: Any, align: Any = False, copy: Any = False) -> np.dtype[Any]:
    """A dtype of plain numbers or strings. Old pickles hold 0 and 1 where NumPy now requires a bool."""
    made: np.dtype[Any] = np.dtype(kind, align=bool(align), copy=bool(copy))
    if made.kind not in "biufcSU":
        raise UserError(f"holds an array of {made}, not of numbers or strings; refused")
    return made


def _refuse_odd(held: Any) -> None:
    """Raise UserError if an array holds anything but numbers or strings.

    `_dtype` sees a dtype as it is made; the pickle may then set its flags and fields as it likes.
    """
    seen: set[int] = set()
    left = [held]
    while left:
        value = left.pop()
        if isinstance(value, (np.ndarray, np.generic, np.dtype)):
            made = value if isinstance(value, np.dtype) else value.dtype
            if made.hasobject or made.fields or made.kind not in "biufcSU":
                raise UserError("holds an array that is not of numbers or strings; refused")
        elif isinstance(value, (dict, list, tuple, set, frozenset)) and id(value) not in seen:
            seen.add(id(value))
            left += [*value, *value.values()] if isinstance(value, dict) else value


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Restore bytes that Python 3 pickled for Python 2: they are stored as Latin-1 text, to be encoded on reading."""
    if encoding != "latin1":
        raise UserError(f"encodes bytes as {encoding!r}; refused")
    return text.encode("latin1")


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> np.ndarray:
    """Restore an array written by pickle protocol 5; an array in order "K" is stored in C order, then transposed."""
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
        """The callable of that name, if it is one of `_ALLOWED`."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UserError(
                f"the pickle names {module}.{name}, which is neither an array nor a plain container; refused"
            ) from None
