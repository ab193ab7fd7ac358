"""Queries to Git, run as a subprocess."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pipeline.support.errors import UserError


def git(*arguments: str, folder: Path | None = None) -> str:
    """Run a Git command and return its standard output without the final line break.

    Args:
        arguments: The subcommand and its arguments.
        folder: Where to run it; None for the current folder. The repository is that of this folder, whatever the
            environment says (see `environment`).

    Raises:
        UserError: if the command fails, or Git cannot be run.
    """
    done = _run(arguments, folder)
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def git_or_none(*arguments: str, folder: Path | None = None) -> str | None:
    """Run a Git command like `git`, but return None if it fails."""
    done = _run(arguments, folder)
    return None if done.returncode else done.stdout.rstrip("\n")


def uncommitted(*leave_out: str, folder: Path | None = None, only: Sequence[str] = (".",)) -> str:
    """List the tracked files that have uncommitted changes, for use in a message.

    Args:
        leave_out: Paths to ignore.
        folder: The repository; None for that of this folder.
        only: Paths to look at.

    Returns:
        The file names separated by commas; empty if there are none.
    """
    out = (f":!{path}" for path in leave_out)
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *only, *out, folder=folder)
    return ", ".join(line[2:].strip() for line in changed.splitlines())


def unknown(*patterns: str) -> list[str]:
    """List the files that Git neither has nor ignores, of those that match a pattern such as "pipeline/*.py"."""
    return git("ls-files", "--others", "--exclude-standard", "--", *patterns).splitlines()


def unlock(folder: Path) -> None:
    """Remove the locks that a killed Git command left in a clone on which no other process works."""
    git_folder = folder / ".git"
    for left in [*git_folder.glob("*.lock"), *(git_folder / "refs").rglob("*.lock")]:  # the latter of single references
        left.unlink(missing_ok=True)


def environment() -> dict[str, str]:
    """Return this process's environment without what ties Git to one repository, such as GIT_DIR and GIT_INDEX_FILE.

    In a linked worktree Git sets GIT_DIR for aliases, hooks and `rebase --exec`. A command that is run in another folder
    would then act on that repository. Configuration given by variables stays, as where Git itself calls Git elsewhere.
    """
    tied = _tied() - {"GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS"}
    return {name: value for name, value in os.environ.items() if name not in tied}


@cache
def _tied() -> frozenset[str]:
    """The variables that mean one repository."""
    command = ["git", "rev-parse", "--local-env-vars"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - Git
    except FileNotFoundError:  # `_run` tells of it
        return frozenset()
    return frozenset(listed.stdout.split())


def _run(arguments: tuple[str, ...], folder: Path | None) -> subprocess.CompletedProcess[str]:
    # In another folder, a clone of ours: hooks of the user's are not meant for it.
    hooks = ["-c", "core.hooksPath=/dev/null"] if folder is not None or arguments[0] == "clone" else []
    command = ["git", *hooks, *arguments]
    try:
        return subprocess.run(  # noqa: S603 - Git
            command, cwd=folder, env=environment(), capture_output=True, text=True, errors="replace"
        )
    except FileNotFoundError:
        where = "" if folder is None or folder.is_dir() else f" in {folder}, which is not a folder"
        return subprocess.CompletedProcess(command, 127, "", f"cannot be run{where}; install Git, or put it on PATH")
