"""A square root that is the same number on every processor."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def sqrt_(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor of real floating-point numbers by its square root, in place.

    On a CPU, PyTorch takes the root from a vendor's library, which chooses an algorithm by the kind of processor and
    does not round correctly: about one value in a hundred is one bit off, and not the same values on every processor.
    NumPy's root follows IEEE 754: it is correctly rounded, hence the same everywhere, and as fast. It is used for
    float32 and float64 tensors on a CPU, PyTorch's root for all others.
    """
    for tensor in tensors:
        if tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64):
            array = tensor.numpy()
            np.sqrt(array, out=array)
        else:
            tensor.sqrt_()
