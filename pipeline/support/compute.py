"""How a run is computed: device, threads, determinism and memory. None of this is part of any result."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.support.errors import UserError
from pipeline.support.portable import in_force

if TYPE_CHECKING:
    from pipeline.config.sections import Compute

#: Parameters of glibc's mallopt(3), and the largest values that they take; before version 2.35 the limit of the second
#: was 32 MB.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_TRIM, LARGEST_MMAP = 2**31 - 1, (2**30, 2**25)


def prepare(compute: Compute) -> torch.device:
    """Set threads, determinism and memory handling for this process, and choose the device.

    Args:
        compute: The `compute` section of params.yaml; its device "auto" means a GPU with CUDA if there is one, else the
            CPU.

    Returns:
        The device to compute on.

    Raises:
        UserError: if the machine does not have the device.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.set_num_threads(compute.threads)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms() would import the compiler: seconds
    # PyTorch would also fill all memory that it takes before it writes to it: a fifteenth of a step, and no result uses it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # By default a GPU rounds what enters a convolution to ten bits, in single precision (TF32): so would eigenvalues be.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    # Second moments that decay towards 0 become denormal numbers, on which a CPU is a hundred times slower.
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    name = compute.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= count:
        raise UserError(f"params.yaml: compute.device: '{name}' is not on this machine; use cpu or auto")
    return torch.device(name)


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next allocation instead of returning it to the kernel.

    By default it returns the memory of the features of each forward pass, and the kernel supplies it again page by
    page, filled with zeros, which takes a quarter of the time of an evaluation.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # The order matters, because setting either one stops glibc from adjusting both by itself.
    if any(mallopt(MMAP_THRESHOLD, size) for size in LARGEST_MMAP):
        mallopt(TRIM_THRESHOLD, LARGEST_TRIM)


def portable(device: torch.device) -> bool:
    """Whether what this process computes on `device` has the same bytes on every x86-64 processor with AVX2."""
    return in_force() and device.type == "cpu" and torch.get_num_threads() == 1


def machine(device: torch.device) -> dict[str, str | int]:
    """Describe the machine and software of this process, for the files in logs/."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "portable": portable(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
