"""Anything with a shape and products as an operator: a dense matrix, a SciPy LinearOperator, an object of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.curvature.operator import SymmetricOperator


class DenseOperator:
    """A symmetric matrix, (n, n)."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.shape = (matrix.shape[0], matrix.shape[1])
        self.dtype, self.device = matrix.dtype, matrix.device

    def matvec(self, v: Tensor) -> Tensor:
        """(n,) -> (n,)."""
        return self.matrix @ v

    def matmat(self, vectors: Tensor) -> Tensor:
        """(n, m) -> (n, m)."""
        return self.matrix @ vectors


class _Torch:
    """shape and matvec of somebody's own, whose vectors are torch's."""

    def __init__(
        self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device, matvec: Callable[[Tensor], Any]
    ):
        self.shape, self.dtype, self.device = shape, dtype, device
        self._matvec = matvec

    def matvec(self, v: Tensor) -> Tensor:
        product: Tensor = self._matvec(v)
        return product


class _Foreign:
    """shape and matvec of another library, whose vectors are numpy's."""

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, matvec: Callable[[np.ndarray], Any]) -> None:
        self.shape, self.dtype, self.device = shape, dtype, torch.device("cpu")
        self._matvec = matvec

    def matvec(self, v: Tensor) -> Tensor:
        return torch.as_tensor(np.asarray(self._matvec(v.numpy())), dtype=self.dtype).reshape(-1)


def as_operator(thing: Any) -> SymmetricOperator:
    """`thing` as an operator.

    A tensor or numpy array (n, n), a SciPy LinearOperator, or anything with `shape` and `matvec`. With a torch dtype its
    vectors are torch's, on its `device` (the CPU where it names none); otherwise they are numpy's (float64 where it has no
    dtype). Raises ValueError for what is not square, TypeError for what has no products or a dtype that is neither's.
    """
    if isinstance(thing, Tensor | np.ndarray):
        matrix = torch.as_tensor(thing)
        _square(tuple(matrix.shape))
        return DenseOperator(matrix)
    if not hasattr(thing, "shape") or not hasattr(thing, "matvec"):
        raise TypeError(f"neither a matrix nor an operator with shape and matvec: {type(thing).__name__}")
    _square(tuple(thing.shape))
    shape = (int(thing.shape[0]), int(thing.shape[1]))
    given = getattr(thing, "dtype", None)
    if isinstance(given, torch.dtype):
        if isinstance(thing, SymmetricOperator):
            return thing
        return _Torch(shape, given, torch.device(getattr(thing, "device", None) or "cpu"), thing.matvec)
    try:
        kind = np.dtype(given or np.float64)
    except TypeError:
        raise TypeError(f"the operator's dtype must be torch's or numpy's, is {given!r}") from None
    dtype = torch.float32 if kind == np.float32 else torch.float64
    return _Foreign(shape, dtype, thing.matvec)


def _square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"an operator must be square, this one is {shape}")
