"""What a process is set to before it computes."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.optimizers.roots import sqrt_
from pipeline.support import portable
from tests.clones import ENVIRONMENT, Clone, one_line

SHOW = """
import os, sys
sys.argv[0] = "train"
from stages.process import begin
begin("__main__")
import json, torch
from pipeline.support.compute import machine, prepare
from pipeline.config.reading import read_sections
device = prepare(read_sections().compute)
print(json.dumps({
    "capability": torch.backends.cpu.get_cpu_capability(), "told": machine(device)["portable"],
    **{name: os.environ.get(name) for name in sys.argv[1:]},
}))
"""

NAMES = ("MKL_CBWR", "ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS")


def shown(folder: Path, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", SHOW, *NAMES],
        cwd=folder,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def here() -> None:
    if portable.obstacle():
        pytest.skip(f"cannot be portable: {portable.obstacle()}")


@pytest.mark.usefixtures("here")
def test_a_stage_takes_the_same_kernels_whatever_was_set_before(configured: Path) -> None:
    found = shown(configured, ATEN_CPU_CAPABILITY="default", MKL_CBWR="AVX2", MKL_ENABLE_INSTRUCTIONS="SSE4_2")
    assert found == {
        "capability": "AVX2",
        "told": True,
        "MKL_CBWR": "COMPATIBLE",
        "ATEN_CPU_CAPABILITY": "avx2",
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": None,
    }


@pytest.mark.parametrize(("old", "new"), [("portable: true", "portable: false"), ("threads: 1", "threads: 2")])
def test_without_it_and_with_more_threads_nothing_is_set(configured: Path, old: str, new: str) -> None:
    path = configured / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    found = shown(configured, ATEN_CPU_CAPABILITY="default")
    assert (found["capability"], found["told"], found["MKL_CBWR"]) == ("DEFAULT", False, ENVIRONMENT.get("MKL_CBWR"))


def test_it_comes_before_the_libraries_or_not_at_all() -> None:
    with pytest.raises(RuntimeError, match="before the import of numpy and"):
        portable.make_portable()
    assert not portable.in_force()


@pytest.mark.parametrize(
    ("machine", "flags", "told"),
    [
        ("x86_64", "fpu sse4_2 avx avx2 fma", ""),
        ("x86_64", "fpu sse4_2 avx", "this processor has no AVX2 and no FMA"),
        ("x86_64", "fpu sse4_2 avx2", "this processor has no FMA"),
        ("aarch64", "", "the processor is not x86-64 but aarch64"),
        ("x86_64", None, "the system does not tell"),
    ],
)
def test_where_it_cannot_hold_it_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, flags: str | None, told: str
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n", encoding="utf-8")
    monkeypatch.setattr(portable, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert portable.obstacle().startswith(told)
    assert bool(portable.obstacle()) == bool(told)


def test_a_processor_without_avx2_gets_one_line_and_goes_on(configured: Path) -> None:
    code = (
        "import sys, pathlib; from pipeline.support import portable; portable.CPUINFO = pathlib.Path('cpuinfo'); "
        "sys.argv[0] = 'train'; from stages.process import begin; begin('__main__'); print(portable.in_force())"
    )
    (configured / "cpuinfo").write_text("flags : fpu\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code], cwd=configured, env=ENVIRONMENT, capture_output=True, text=True)
    assert (
        one_line(done.stderr)
        == ("train: note: this processor has no AVX2 and no FMA: compute.portable has no effect here\n")
        or platform.machine() != "x86_64"
    )
    assert done.stdout == "False\n"


def test_a_wrong_compute_section_is_a_line_before_anything_is_computed(clone: Clone) -> None:
    clone.edit("params.yaml", "portable: true", "portable: maybe")
    told = one_line(clone.stage("train", "naive", "1", status=2))
    assert told.startswith("train: params.yaml: compute.portable: must be a valid boolean")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_root_is_correctly_rounded(dtype: torch.dtype) -> None:
    """IEEE 754 leaves no choice: the nearest number to the true root, on every processor."""
    draw = np.random.default_rng(0)
    values = torch.from_numpy(np.exp(draw.uniform(-80, 80, 3000))).to(dtype)
    roots = values.clone()
    sqrt_([roots])
    below, above = (np.nextafter(roots.numpy(), roots.numpy() * factor) for factor in (0, 2))
    for value, root, less, more in zip(values.tolist(), roots.tolist(), below.tolist(), above.tolist(), strict=True):
        halfway = [(Fraction(root) + Fraction(other)) / 2 for other in (less, more)]
        assert halfway[0] ** 2 <= Fraction(value) <= halfway[1] ** 2
