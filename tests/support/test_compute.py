"""What a process of a stage is set to."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PASSES = """
import resource
import sys

import torch

from pipeline.support.compute import prepare
from pipeline.config.schema import Compute

if sys.argv[1] == "prepared":
    prepare(Compute(device="cpu", threads=1))


def passes(count):
    for _ in range(count):
        features = [torch.ones(100, int(sys.argv[2]), 32, 32) for _ in range(3)]
        del features


passes(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
passes(20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is set")
def test_freed_memory_is_not_fetched_from_the_kernel_again() -> None:
    plain = faults("as it is", channels=100)  # 60 tensors of 10,000 pages, if all are fetched anew
    if plain < 100_000:
        pytest.skip("this kernel hands out memory in huge pages, or this allocator keeps it by itself")
    assert faults("prepared", channels=20) < 20_000  # 8 MB each
    if tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 35):
        assert faults("prepared", channels=100) < plain / 4  # now and then the kernel takes some back


def faults(how: str, channels: int) -> int:
    """Pages fetched during twenty passes of three tensors of 100 images."""
    command = [sys.executable, "-c", PASSES, how, str(channels)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
