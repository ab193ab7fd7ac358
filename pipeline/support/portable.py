"""Arithmetic that gives the same bytes on every x86-64 processor with AVX2: `compute.portable` of params.yaml.

The libraries below PyTorch, NumPy and SciPy choose their kernels by the processor, and other kernels add in another order.
Each takes its choice from an environment variable, which it reads once, when it is loaded or first called: they must be set
before any of the three is imported. What no variable holds, the square root, is in `pipeline.optimizers.roots`.

This module imports nothing but the standard library.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

#: Whom each is for: matrix and dot products (MKL); element-wise kernels, reductions, batch normalisation (ATen);
#: convolutions (oneDNN); NumPy's and SciPy's products (OpenBLAS: its kernels, and one thread, as a sum over two differs).
VARIABLES = {
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
}
#: Older names for the same choices, which would have a say.
OTHERS = ("DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
#: What reads the variables.
LIBRARIES = ("numpy", "scipy", "torch")
#: NumPy's own kernels for AVX-512, which it names anew from version 2.4 on.
NUMPY_AVX512 = "X86_V4 AVX512_ICL AVX512_SPR"
NUMPY_AVX512_BEFORE_2_4 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"

CPUINFO = Path("/proc/cpuinfo")

_in_force = False


def in_force() -> bool:
    """Whether this process was made portable: what runs on its CPU with one thread gives the same bytes elsewhere."""
    return _in_force


def make_portable() -> str:
    """Set the variables for this process; return why they cannot have their effect here, or nothing.

    Raises RuntimeError where a library that would read them is imported already.
    """
    global _in_force
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
    """Why the arithmetic of this machine cannot be made portable; empty where it can."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"this is no x86-64 processor but {platform.machine()}"
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"the system does not tell in {CPUINFO} what the processor can do"
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    lacking = [name for name in ("avx2", "fma") if name not in flags]
    return f"this processor has no {' and no '.join(name.upper() for name in lacking)}" if lacking else ""
