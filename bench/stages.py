"""What a stage costs beyond its own command, and how it grows with the number of stages.

    python -m bench.stages [--counts 60,240] [--jobs 2] [--dvc 60] [--rounds 1]

Pipelines of trivial stages, each of which depends on one stage of the first tenth, in new repositories with empty
caches: by `tag-pipeline repro -j JOBS`, and those of at most `--dvc` stages by `dvc repro`, alternated. Then each is
asked again, with nothing to do. Both must give the same dvc.lock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.side_by_side import seconds


def repository(folder: Path, count: int) -> None:
    """A repository of `count` stages that each write a line."""
    folder.mkdir()
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    first = max(1, count // 10)
    stages = {
        f"s{number:04}": {
            "cmd": f"echo {number} > {number}.txt",
            "deps": [f"{number % first}.txt"] if number >= first else [],
            "outs": [f"{number}.txt"],
        }
        for number in range(count)
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")


def main() -> None:
    """Print a line for each number of stages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--counts", default="60,240")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--dvc", type=int, default=60, help="most stages to run by `dvc repro`, which takes long")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    print(f"{'stages':>6}  {'way':<22} {'seconds':>8} {'a stage':>8} {'up to date':>11}", flush=True)
    for count in map(int, given.counts.split(",")):
        ways = {f"tag-pipeline -j {given.jobs}": [sys.executable, "-m", "pipeline", "repro", "-j", str(given.jobs)]}
        if count <= given.dvc:
            ways["dvc repro"] = [sys.executable, "-m", "dvc", "repro"]
        took: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(given.rounds):
            locks = set()
            with tempfile.TemporaryDirectory() as place:
                for number, (way, command) in enumerate(ways.items()):
                    folder = Path(place) / str(number)
                    repository(folder, count)
                    took[way].append((seconds(command, folder), seconds(command, folder)))
                    locks.add((folder / "dvc.lock").read_bytes())
            if len(locks) > 1:
                sys.exit("the dvc.lock files differ")
        for way, pairs in took.items():
            ran, again = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{count:>6}  {way:<22} {ran:>8.1f} {ran / count:>8.2f} {again:>11.1f}", flush=True)


if __name__ == "__main__":
    main()
