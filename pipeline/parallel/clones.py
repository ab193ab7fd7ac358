"""Workers without a shared folder: each clones the commit, pulls the inputs of a stage, runs it and pushes its outputs.

Two things connect the machines: a Git repository carries the commit, and a DVC remote carries everything else,
including DVC's run-cache, from which the first machine then restores a stage without running it. Each request also
carries the first machine's current dvc.lock, because that says which versions of its inputs the stage needs.
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

from pipeline.parallel.dvc import open_repository
from pipeline.parallel.dvc_process import StageFailedError, tail
from pipeline.parallel.lockfile import LOCK
from pipeline.support.dvc_config import write_dvc_config
from pipeline.support.errors import UserError
from pipeline.support.files import write_text
from pipeline.support.git import environment, git, uncommitted, unknown, unlock

#: Environment variable: the folder for a worker's clones and their DVC cache; by default ~/.cache/tag-pipeline.
VARIABLE = "TAG_CLONES"
#: Paths that may differ from the commit without changing what is run: dvc.lock, and folders of outputs.
OUTPUTS = (LOCK, "metrics", "results")


@dataclass(frozen=True)
class Source:
    """Where a worker gets a stage and its inputs from.

    Attributes:
        url: URL of the Git repository.
        commit: Hash of the commit to run.
        remote: Name and URL of the DVC remote.
        lock: Text of dvc.lock.
        inputs: Paths that the stage takes from other stages.
    """

    url: str
    commit: str
    remote: tuple[str, str]
    lock: str = ""
    inputs: tuple[str, ...] = ()

    def to(self, inputs: tuple[str, ...]) -> Source:
        """Return a copy for one stage: with its `inputs`, and with dvc.lock as it is now."""
        lock = Path(LOCK)  # there is none before the first stage has run
        return replace(self, lock=lock.read_text(encoding="utf-8") if lock.exists() else "", inputs=inputs)


def source_of_here(url: str) -> Source:
    """Describe the commit and the DVC remote of this folder, for workers to clone.

    Args:
        url: URL of the Git repository that workers clone.

    Raises:
        UserError: if workers could not run what is here: changes are not committed, or DVC has no default remote.
    """
    # DVC compares folders of code, files that Git does not know included.
    if names := ", ".join(filter(None, [uncommitted(*OUTPUTS), *unknown("pipeline/*.py", "stages/*.py")])):
        raise UserError(f"--clone-from {url}: workers get what is committed, and {names} is not; commit it first")
    with open_repository() as repository:
        remote = repository.default_remote()
    if remote is None:
        raise UserError(
            f"--clone-from {url}: results travel through DVC's default remote and there is none; add one that every machine "
            "reaches: dvc remote add -d NAME URL"
        )
    if Path(url).exists():
        url = str(Path(url).resolve())  # workers have other folders
    return Source(url, git("rev-parse", "HEAD"), remote)


@contextlib.contextmanager
def own_clone(source: Source, stage: str) -> Iterator[Path]:
    """Yield the folder of a clone that nobody else uses during the block.

    The clone is at the source's commit and has its dvc.lock. It is kept, and later stages use it again.

    Args:
        source: What to clone.
        stage: Name of the stage, for errors.

    Raises:
        StageFailedError: if a Git command fails.
    """
    # Absolute, because DVC takes the folder of a cache as seen from its own configuration.
    place = Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "tag-pipeline").expanduser().absolute()
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
    """Create or update the clone in `folder`: its commit, its DVC configuration and dvc.lock."""
    if not (folder / ".git" / "HEAD").exists():
        _run(stage, "git", "init", "--quiet", str(folder))
    unlock(folder)
    _run(stage, "git", "-C", str(folder), "fetch", "--quiet", "--force", "--prune", source.url, "+refs/*:refs/origin/*")
    checkout = ["checkout", "--quiet", "--force", "--detach", source.commit]
    _run(stage, "git", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *checkout)  # hooks are not meant for it
    name, url = source.remote
    write_dvc_config(
        folder, {"core": {"remote": name}, "cache": {"dir": str(base / "cache")}, f'remote "{name}"': {"url": url}}
    )
    if source.lock:
        write_text(folder / LOCK, source.lock)
    else:
        (folder / LOCK).unlink(missing_ok=True)


def _run(stage: str, *command: str) -> None:
    done = subprocess.run(  # noqa: S603 - Git, with arguments from the client
        command, env=environment(), capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        hint = "; push the commit there first" if "checkout" in command else ""
        raise StageFailedError(stage, tail(f"{' '.join(command)}: {done.stderr.strip()}{hint}"))
