"""What a process of a stage is set to."""

from __future__ import annotations

import platform
import subprocess
import sys
from unittest.mock import Mock

import pytest
import torch

from pipeline.config.sections import Compute
from pipeline.support import compute
from pipeline.support.errors import UserError

PASSES = """
import resource
import sys

import torch

from pipeline.support.compute import prepare
from pipeline.config.sections import Compute

if sys.argv[1] == "prepared":
    prepare(Compute(device="cpu", threads=1))


def faults(channels):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    features = [torch.ones(100, channels, 32, 32) for _ in range(3)]
    del features
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


for channels in map(int, sys.argv[2:]):
    print(min([faults(channels) for _ in range(30)][3:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is set")
def test_freed_memory_is_not_fetched_from_the_kernel_again() -> None:
    (plain,) = faults("as it is", 100)  # three tensors of 10,000 pages, if all are fetched anew
    if plain < 5_000:
        pytest.skip("this kernel hands out memory in huge pages, or this allocator keeps it by itself")
    small, large = faults("prepared", 20, 100)
    assert small < 1_000  # of 6,000: 8 MB each
    if tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 35):
        assert large < plain / 4


def faults(how: str, *channels: int) -> list[int]:
    """Pages fetched for three tensors of 100 images that take the place of others, for each number of channels.

    Of several passes the fewest: now and then the kernel takes pages back that were not used for a while.
    """
    command = [sys.executable, "-c", PASSES, how, *map(str, channels)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [int(line) for line in told.split()]


SETTINGS = """
import torch

from pipeline.config.sections import Compute
from pipeline.support.compute import prepare

prepare(Compute(device="cpu", threads=1))
print(torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory)
print(torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
print(float(torch.tensor(1e-38) * 1e-3))
"""


@pytest.fixture(scope="module")
def prepared() -> list[str]:
    """What a process is set to: determinism, filling of memory, TF32 twice; and a denormal number."""
    return subprocess.run([sys.executable, "-c", SETTINGS], capture_output=True, text=True, check=True).stdout.split()


def test_a_stage_is_deterministic_in_single_precision_and_fills_no_memory_for_nothing(prepared: list[str]) -> None:
    assert prepared[:4] == ["2", "False", "False", "False"]


def test_a_stage_computes_with_denormal_numbers_as_with_0(prepared: list[str]) -> None:
    assert prepared[4:] == ["0.0"]


def test_a_device_that_the_machine_does_not_have_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with one GPU, for which a stand-in for PyTorch speaks, so that this process stays as it is set."""
    pytorch = Mock(device=torch.device, **{"cuda.device_count.return_value": 1, "backends.mps.is_available": bool})
    monkeypatch.setattr(compute, "torch", pytorch)
    monkeypatch.setattr(compute, "_keep_freed_memory", lambda: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    assert str(compute.prepare(Compute(device="cuda:0", threads=1))) == "cuda:0"
    for device in ("cuda:1", "mps"):
        with pytest.raises(UserError, match=f"'{device}' is not on this machine; use cpu or auto"):
            compute.prepare(Compute(device=device, threads=1))
