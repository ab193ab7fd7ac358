"""Workers without a common folder: each clones the commit, pulls what a stage needs, runs it and pushes what it made.

The way between the machines is a Git repository for the commit and a DVC remote for everything else, the run-cache included:
the first machine then restores a stage without running it. dvc.lock as the first machine has it travels with each stage, for
it says which versions the stage needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.parallel.dvc import LOCK, open_repository
from pipeline.parallel.dvc_process import StageFailedError, tail
from pipeline.support.errors import UserError
from pipeline.support.files import write_text
from pipeline.support.git import git, uncommitted

#: Where a worker keeps its clones and their cache; else in the user's cache folder.
VARIABLE = "TAG_CLONES"
#: What a run may change without being another run: outputs, and where stages put files of their own.
OUTPUTS = (LOCK, "metrics", "results")


@dataclass(frozen=True)
class Source:
    """Where a worker gets a stage from.

    Attributes:
        url: Of the Git repository.
        commit: The one to run.
        remote: Name and URL of the DVC remote.
        lock: The text of dvc.lock.
        inputs: The paths that the stage takes from other stages.
    """

    url: str
    commit: str
    remote: tuple[str, str]
    lock: str = ""
    inputs: tuple[str, ...] = ()

    def to(self, inputs: tuple[str, ...]) -> Source:
        """The same for one stage, with dvc.lock as it is now."""
        return replace(self, lock=Path(LOCK).read_text(encoding="utf-8"), inputs=inputs)


def source_of_here(url: str) -> Source:
    """This folder's commit and remote, for workers to clone. Raises UserError where they could not run what is here."""
    if names := uncommitted(*OUTPUTS):
        raise UserError(f"--clone-from {url}: workers get what is committed, and {names} is not; commit it first")
    with open_repository() as repository:
        remote = repository.default_remote()
    if remote is None:
        raise UserError(
            f"--clone-from {url}: results travel through DVC's default remote and there is none; add one that every machine "
            "reaches: dvc remote add -d NAME URL"
        )
    return Source(url, git("rev-parse", "HEAD"), remote)


@contextlib.contextmanager
def own_clone(source: Source, stage: str) -> Iterator[Path]:
    """A clone with the source's commit and dvc.lock that nobody else uses during the block; kept for later stages.

    Raises StageFailedError.
    """
    place = Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "tag-pipeline")
    base = place / hashlib.sha256(source.url.encode()).hexdigest()[:12]
    base.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        lock = FileLock(base / f"{number}.lock", timeout=0)
        with contextlib.suppress(Timeout), lock:
            folder = base / str(number)
            _bring(folder, base, source, stage)
            yield folder
            return
        number += 1


def _bring(folder: Path, base: Path, source: Source, stage: str) -> None:
    if not (folder / ".git" / "HEAD").exists():
        _run(stage, "git", "init", "--quiet", str(folder))
    _run(stage, "git", "-C", str(folder), "fetch", "--quiet", "--force", source.url, "+refs/*:refs/origin/*")
    _run(stage, "git", "-C", str(folder), "checkout", "--quiet", "--force", "--detach", source.commit)
    name, url = source.remote
    write_text(
        folder / ".dvc" / "config.local",
        f"[core]\n    remote = {name}\n[cache]\n    dir = {base / 'cache'}\n['remote \"{name}\"']\n    url = {url}\n",
    )
    write_text(folder / LOCK, source.lock)


def _run(stage: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - Git, with the client's own words
    if done.returncode:
        hint = "; push the commit there first" if "checkout" in command else ""
        raise StageFailedError(stage, tail(f"{' '.join(command)}: {done.stderr.strip()}{hint}"))
