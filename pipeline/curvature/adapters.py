"""Turn a matrix, a SciPy LinearOperator or any object with shape and matvec into an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .operator import SymmetricOperator


class DenseOperator:
    """A symmetric matrix as an operator.

    Args:
        matrix: (n, n). It is not checked to be square or symmetric.

    Attributes:
        matrix: The matrix.
        shape: (n, n).
        dtype: That of the matrix.
        device: That of the matrix.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.shape = (matrix.shape[0], matrix.shape[1])
        self.dtype, self.device = matrix.dtype, matrix.device

    def matvec(self, v: Tensor) -> Tensor:
        """The product with one vector: (n,) -> (n,)."""
        return self.matrix @ v

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with m vectors: (n, m) -> (n, m)."""
        return self.matrix @ vectors


class _Torch:
    """The shape and matvec of an object whose vectors are torch tensors."""

    def __init__(
        self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device, matvec: Callable[[Tensor], Any]
    ):
        self.shape, self.dtype, self.device = shape, dtype, device
        self._matvec = matvec

    def matvec(self, v: Tensor) -> Tensor:
        product: Tensor = self._matvec(v)
        return product


class _Foreign:
    """The shape and matvec of an object of another library, whose vectors are NumPy arrays."""

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, matvec: Callable[[np.ndarray], Any]) -> None:
        self.shape, self.dtype, self.device = shape, dtype, torch.device("cpu")
        self._matvec = matvec

    def matvec(self, v: Tensor) -> Tensor:
        return torch.as_tensor(np.asarray(self._matvec(v.numpy())), dtype=self.dtype).reshape(-1)


def as_operator(thing: Any) -> SymmetricOperator:
    """Turn a matrix or an object with products into an operator.

    Args:
        thing: An (n, n) tensor or NumPy array, one of whole numbers taken as float64; a SciPy LinearOperator; or any
            object with `shape` and `matvec`. If an object's dtype is one of torch's, its vectors are tensors on its
            `device` (on the CPU if it has none).
            Otherwise they are NumPy arrays, and products are taken as float32 if that is its dtype, else as float64.

    Returns:
        `thing` itself if it already is an operator, else an object around it.

    Raises:
        ValueError: if `thing` is not square.
        TypeError: if `thing` has no products, if it is complex, or if its dtype is neither torch's nor NumPy's.
    """
    if isinstance(thing, Tensor | np.ndarray):
        matrix = torch.as_tensor(thing)
        _square(tuple(matrix.shape))
        _real(matrix.is_complex())
        return DenseOperator(matrix if matrix.is_floating_point() else matrix.double())
    if not hasattr(thing, "shape") or not hasattr(thing, "matvec"):
        raise TypeError(f"neither a matrix nor an operator with shape and matvec: {type(thing).__name__}")
    _square(tuple(thing.shape))
    shape = (int(thing.shape[0]), int(thing.shape[1]))
    given = getattr(thing, "dtype", None)
    if isinstance(given, torch.dtype):
        _real(given.is_complex)
        if isinstance(thing, SymmetricOperator):
            return thing
        return _Torch(shape, given, torch.device(getattr(thing, "device", None) or "cpu"), thing.matvec)
    try:
        kind = np.dtype(given or np.float64)
    except TypeError:
        raise TypeError(f"the operator's dtype must be torch's or numpy's, is {given!r}") from None
    _real(kind.kind == "c")
    dtype = torch.float32 if kind == np.float32 else torch.float64
    return _Foreign(shape, dtype, thing.matvec)


def _real(is_complex: bool) -> None:
    if is_complex:
        raise TypeError("a matrix or an operator must be real, this one is complex")


def _square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"an operator must be square, this one is {shape}")
