"""Arithmetic that gives the same bytes on every x86-64 processor with AVX2: `compute.portable` in params.yaml.

The libraries beneath PyTorch, NumPy and SciPy choose their kernels by the type of processor, and different kernels add
in a different order. An environment variable fixes the choice of each library, which reads it once, when it is loaded
or first called, so all variables must be set before any of the three packages is imported. The square root, which no
variable controls, is replaced by `pipeline.optimizers.roots`.

This module imports nothing but the standard library.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

#: What the variables fix, in their order: matrix and dot products (MKL); element-wise kernels, reductions and batch
#: normalisation (ATen); convolutions (oneDNN); the products of NumPy and SciPy (OpenBLAS: its kernels, and its use of
#: one thread, because a sum that is split over two threads rounds differently).
VARIABLES = {
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
}
#: Older names of such variables, which are removed because they would still have an effect.
OTHERS = ("DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
#: The packages that read the variables or load a library that does.
LIBRARIES = ("numpy", "scipy", "torch")
#: The features to disable so that NumPy does not use its own AVX-512 kernels; version 2.4 renamed them.
NUMPY_AVX512 = "X86_V4 AVX512_ICL AVX512_SPR"
NUMPY_AVX512_BEFORE_2_4 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"

CPUINFO = Path("/proc/cpuinfo")

_in_force = False


def in_force() -> bool:
    """Whether `make_portable` took effect in this process.

    If so, whatever runs on its CPU with one thread gives the same bytes on other processors.
    """
    return _in_force


def make_portable() -> str:
    """Set the environment variables for this process, unless its machine cannot be made portable.

    Where they are set already, as in the fork of a process that has called this function, nothing is done.

    Returns:
        An empty string if they were set, else the reason why they would have no effect.

    Raises:
        RuntimeError: if NumPy, SciPy or PyTorch has already been imported.
    """
    global _in_force
    if _in_force:
        return ""
    loaded = [name for name in LIBRARIES if name in sys.modules]
    if loaded:
        raise RuntimeError(f"make_portable() must come before the import of {' and '.join(loaded)}")
    reason = obstacle()
    if not reason:
        os.environ.update(VARIABLES)
        newer = tuple(map(int, version("numpy").split(".")[:2])) >= (2, 4)
        os.environ["NPY_DISABLE_CPU_FEATURES"] = NUMPY_AVX512 if newer else NUMPY_AVX512_BEFORE_2_4
        for name in OTHERS:
            os.environ.pop(name, None)
        _in_force = True
    return reason


def obstacle() -> str:
    """Explain why the arithmetic of this machine cannot be made portable; an empty string means that it can."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"the processor is not x86-64 but {platform.machine()}"
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"the system does not tell in {CPUINFO} what the processor can do"
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    lacking = [name for name in ("avx2", "fma") if name not in flags]
    return f"this processor has no {' and no '.join(name.upper() for name in lacking)}" if lacking else ""
