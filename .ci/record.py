"""Whether `make repro` gave the committed record again; if not, on which processor, and which files of which stages differ.

Compares dvc.lock and metrics/ with the last commit. dvc.lock holds the checksum of every output, the tables behind the
figures and the figures themselves included.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def git(*arguments: str) -> str:
    """The output of a git command."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def sums(lock: dict[str, Any], kind: str) -> dict[tuple[str, str], str]:
    """(stage, path) -> checksum of all `outs` or `deps`."""
    return {
        (stage, entry["path"]): entry["md5"]
        for stage, described in lock["stages"].items()
        for entry in described.get(kind, [])
    }


def differences(committed: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each output that is another now, and for each input that is no output of another stage."""
    found = []
    outputs = {path for _, path in [*sums(committed, "outs"), *sums(now, "outs")]}
    for kind, told in (("outs", "output"), ("deps", "dependency")):
        before, after = sums(committed, kind), sums(now, kind)
        for stage, path in sorted(before.keys() | after.keys()):
            if kind == "deps" and path in outputs:
                continue  # told once, where it is made
            if before.get((stage, path)) != after.get((stage, path)):
                how = (
                    "is missing"
                    if (stage, path) not in after
                    else "is new"
                    if (stage, path) not in before
                    else "differs"
                )
                found.append(f"{stage}: {told} {path} {how}")
    return found


def processor() -> str:
    """What this machine calls its processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def main() -> int:
    """Print what differs; the exit status."""
    committed = YAML(typ="safe").load(git("show", "HEAD:dvc.lock"))
    now = YAML(typ="safe").load(Path("dvc.lock").read_text(encoding="utf-8"))
    found = differences(committed, now)
    found += [f"summarize: {line[3:]} differs" for line in git("status", "--porcelain", "--", "metrics").splitlines()]
    if not found and git("status", "--porcelain", "--", "dvc.lock"):
        found = ["dvc.lock differs, but in no checksum of an output or a dependency: see 'git diff dvc.lock'"]
    for line in found:
        print(f"on {processor()}: {line}", file=sys.stderr)
    if found:
        print(f"the committed record did not come out again: {len(found)} differences, above", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
