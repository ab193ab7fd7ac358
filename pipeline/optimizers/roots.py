"""A square root that is the same number on every processor."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def sqrt_(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor of real floating-point numbers by its square root, in place.

    PyTorch takes the root on a CPU from a vendor's library, which picks an algorithm by the kind of processor and does not
    round correctly (a value in a hundred is one bit off, and other values on other processors). NumPy's root is IEEE 754's:
    correctly rounded, hence equal everywhere, and as fast. On other devices PyTorch's own is taken.
    """
    for tensor in tensors:
        if tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64):
            array = tensor.numpy()
            np.sqrt(array, out=array)
        else:
            tensor.sqrt_()
