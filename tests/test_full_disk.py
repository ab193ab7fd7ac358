"""A full disk, a real one: a small tmpfs where a stage writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clones import Clone, everything, one_line

Mount = Callable[[Path, int], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount a tmpfs on a folder, with what the folder held and room for so many more KiB."""
    mounted: list[Path] = []

    def mount_(folder: Path, room: int) -> None:
        held = folder.with_name(f"{folder.name}-held")
        folder.mkdir(parents=True, exist_ok=True)
        folder.rename(held)
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this user may not mount a tmpfs: {done.stderr.strip()}")
        mounted.append(folder)
        shutil.copytree(held, folder, dirs_exist_ok=True)
        shutil.rmtree(held)
        used = shutil.disk_usage(folder).used // 1024
        subprocess.run(["mount", "-o", f"remount,size={used + room}k", str(folder)], check=True)

    yield mount_
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@pytest.fixture(autouse=True)
def _on_linux() -> None:
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("needs a tmpfs")


@pytest.mark.parametrize(
    ("stage", "arguments", "place", "room", "output"),
    [
        ("download", [], "data", 64, "data/raw"),
        ("split", [], "data", 100, "data/tasks"),
        ("train", ["naive", "1"], "scratch", 100, "models/naive/1"),
        ("train", ["naive", "1"], "models", 100, "models/naive/1"),
    ],
)
def test_a_full_disk_is_a_line_and_the_next_run_succeeds(
    clone: Clone, mount: Mount, stage: str, arguments: list[str], place: str, room: int, output: str
) -> None:
    wanted = everything(clone, "naive")
    images = (clone.folder / "data/tasks/first_images.npy").read_bytes()
    shutil.rmtree(clone.folder / output)
    shutil.rmtree(clone.folder / "scratch")  # what a finished run keeps there until another one frees the room
    if stage == "download":
        shutil.rmtree(clone.folder / "data/tasks")
    mount(clone.folder / place, room)
    told = one_line(clone.stage(stage, *arguments, status=2))
    assert told.startswith(f"{stage}: ")
    assert "No space left on device" in told
    assert not (clone.folder / output).exists()
    assert not list((clone.folder / place).rglob("*.partial-*"))
    clone.run("mount", "-o", "remount,size=100m", str(clone.folder / place))
    clone.stage(stage, *arguments)
    if stage == "download":
        clone.stage("split")
    assert (clone.folder / "data/tasks/first_images.npy").read_bytes() == images
    assert everything(clone, "naive") == wanted
