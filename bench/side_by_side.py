"""The default benchmark from clean, stages side by side against one after the other, alternated.

    python -m bench.side_by_side [--jobs 2] [--rounds 3]

Each round runs `dvc repro` and `tag-pipeline repro -j JOBS` in fresh copies of the working tree, each with an empty
cache, and compares dvc.lock and every file of metrics/ byte by byte; then it asks again, with nothing to do.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def copy(folder: Path) -> None:
    """The project's files in a new repository, without a cache and without dvc.lock."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)


def seconds(command: list[str], folder: Path) -> float:
    """Of a command that must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - start


def results(folder: Path) -> dict[str, bytes]:
    """dvc.lock and the metrics."""
    files = [folder / "dvc.lock", *sorted(path for path in (folder / "metrics").rglob("*") if path.is_file())]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def main() -> None:
    """Print a line for each round, then medians and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    ways = {
        "one after the other": [sys.executable, "-m", "dvc", "repro"],
        "side by side": [sys.executable, "-m", "pipeline", "repro", "-j", str(given.jobs)],
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    again: list[float] = []
    for number in range(given.rounds):
        made = []
        for way in list(ways) if number % 2 == 0 else list(reversed(ways)):
            with tempfile.TemporaryDirectory() as folder:
                copy(Path(folder))
                took[way].append(seconds(ways[way], Path(folder)))
                made.append(results(Path(folder)))
                if way == "side by side":
                    again.append(seconds(ways[way], Path(folder)))
        same = "the same bytes" if made[0] == made[1] else "DIFFERENT RESULTS"
        print(f"round {number + 1}: {', '.join(f'{way} {took[way][-1]:.0f} s' for way in ways)}; {same}", flush=True)
    slow, fast = (statistics.median(took[way]) for way in ways)
    print(f"median ratio {slow / fast:.2f}; with nothing to do {statistics.median(again):.1f} s")


if __name__ == "__main__":
    main()
