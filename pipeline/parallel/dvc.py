"""Everything that this project uses of DVC beyond `dvc.api` and its command line.

DVC guarantees none of it, so it is kept in this file and in `dvc_inside.py`, which has what is changed in DVC, and each part
says why it is needed. It is known to work with the versions that pyproject.toml allows. Before you raise that bound, run
tests/parallel/test_dvc.py and test_dvc_inside.py with the new DVC: they test every assumption and name those that no longer
hold. One more assumption is elsewhere: stages/process.py reads DVC_STAGE, the variable that DVC sets for a stage's command,
because stages import nothing from this module.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pipeline.config.parsing import LARGEST_LOCK, read_yaml
from pipeline.parallel.dvc_inside import change_inside, each_file_once
from pipeline.parallel.lockfile import LOCK, blocks
from pipeline.support.errors import UserError
from pipeline.support.files import write_text
from pipeline.support.git import git

#: While stages run, or if they did not end well: the names of the stages that dvc.lock had before, a line each.
ORDER = Path(".dvc/tmp/side-by-side.order")
#: Seconds to wait for another DVC process that is using a stage's files.
PATIENCE = 10.0
#: What DVC prints about a stage that it runs, restores from its run-cache, or finds unchanged.
RUNNING, RESTORED, UNCHANGED = "Running stage", "is cached - skipping run", "didn't change, skipping"

#: What is printed about files that another DVC process uses, and about a run that another process works on (`Scratch`).
IN_USE = ("is busy, it is being blocked by:", ": another process is working on it (")

Outcome = Literal["ran", "restored", "unchanged"]


class Repository:
    """DVC's view of a project, as `open_repository` yields it.

    DVC's command line is not enough: `dvc dag` and `dvc status` each load the repository anew, and no command says
    which paths a stage takes from other stages.
    """

    def __init__(self, repo: Any) -> None:
        self._repo = repo

    @cached_property
    def _stages(self) -> dict[str, Any]:
        import networkx as nx

        return {stage.addressing: stage for stage in nx.dfs_postorder_nodes(self._repo.index.graph)}

    def dependencies(self) -> dict[str, list[str]]:
        """Return the stages in the order of `dvc repro`, each with the stages that it depends on directly."""
        below = self._repo.index.graph.successors  # edges point to dependencies
        return {name: [other.addressing for other in below(stage)] for name, stage in self._stages.items()}

    def inputs(self) -> dict[str, list[str]]:
        """Return for each stage the paths that other stages make for it, as `dvc pull` takes them.

        If a dependency is a folder that contains outputs of other stages, these outputs are listed instead of the
        folder. Paths are relative to the root of the repository.
        """
        root, found = self._repo.root_dir, {}
        for name, below in self.dependencies().items():
            outputs = [str(out.fs_path) for other in below for out in self._stages[other].outs]
            paths: dict[str, None] = {}
            for dependency in (str(dep.fs_path) for dep in self._stages[name].deps):
                for out in outputs:
                    if dependency == out or dependency.startswith(f"{out}{os.sep}"):
                        paths[dependency] = None
                    elif out.startswith(f"{dependency}{os.sep}"):
                        paths[out] = None
            found[name] = [Path(os.path.relpath(path, root)).as_posix() for path in paths]
        return found

    def changed(self, names: Collection[str]) -> set[str]:
        """Return those of the named stages whose command, dependencies, parameters or outputs differ from dvc.lock.

        Raises:
            UserError: if another DVC process is still using their files after `PATIENCE` seconds.
        """
        from dvc.lock import LockError

        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self._repo.lock, self._reading([self._stages[name] for name in names]), each_file_once():
                    return {name for name, stage in self._stages.items() if name in names and stage.changed()}
            except LockError as error:
                if time.monotonic() > deadline:
                    raise UserError(f"another DVC is at work here: {error}") from None
            time.sleep(0.5)

    @contextlib.contextmanager
    def _reading(self, stages: Sequence[Any]) -> Iterator[None]:
        """Hold DVC's locks on the files of stages during the block.

        DVC takes and gives back those of each stage, and writes them to a file each time.
        """
        import dvc.rwlock
        from dvc.dependency.db import AbstractDependency
        from dvc.dependency.repo import RepoDependency

        every = (item for stage in stages for item in (*stage.deps, *stage.outs))
        # As DVC: what comes from a database or another repository is no file here.
        paths = sorted({item.fs_path for item in every if not isinstance(item, (RepoDependency, AbstractDependency))})
        hardlink = self._repo.config["core"].get("hardlink_lock", False)
        held = dvc.rwlock.rwlock
        with held(self._repo.tmp_dir, self._repo.fs, " ".join(sys.argv), paths, [], hardlink):
            dvc.rwlock.rwlock = lambda *_: contextlib.nullcontext()
            try:
                yield
            finally:
                dvc.rwlock.rwlock = held

    def default_remote(self) -> tuple[str, str] | None:
        """Return the name and URL of the default remote, or None if there is none.

        A folder is given by its absolute path, which `dvc remote list` does not guarantee.
        """
        name = self._repo.config["core"].get("remote")
        url = self._repo.config["remote"].get(name, {}).get("url") if name else None
        return (name, url) if url else None


@contextlib.contextmanager
def open_repository() -> Iterator[Repository]:
    """Yield the DVC repository of the current folder.

    Raises:
        UserError: if DVC reports an error, on opening (it cannot read dvc.yaml, say) or during the block.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_data.hashfile.cache import DiskError

    change_inside()
    try:
        with Repo(".", _wait_for_lock=True) as repo:  # as --wait-for-lock does
            yield Repository(repo)
    except DvcException as error:
        told = str(error).strip() or type(error).__name__
        fix = "fix it and run again"
        if "not a git repository" in told:  # a downloaded archive
            fix = "clone the project with git, or, to do without experiments: dvc config --local core.no_scm true"
        raise UserError(f"DVC: {told}; {fix}") from None
    except (sqlite3.Error, DiskError) as error:  # DVC's own databases of checksums
        where = os.environ.get("DVC_SITE_CACHE_DIR") or "/var/tmp/dvc"  # noqa: S108 - where DVC has them
        raise UserError(
            f"DVC: its databases below {where} cannot be used ({error}); free some space or fix the permissions there, or "
            "name another folder in DVC_SITE_CACHE_DIR"
        ) from None
    except UnicodeDecodeError:  # DVC takes its own files for UTF-8
        raise UserError("DVC: .dvcignore or another of its files is not UTF-8 text; save it as UTF-8") from None


def run_command(arguments: Sequence[str]) -> int:
    """Run a DVC command in this process: a separate `dvc` process would import DVC anew each time.

    Args:
        arguments: The command-line arguments, without the `dvc` itself.

    Returns:
        The exit status.
    """
    from dvc.cli import main

    return int(main(list(arguments)))


def outcome(output: str) -> Outcome:
    """Tell from the output of `dvc repro --single-item` what it did with its stage: its exit status does not say."""
    if RESTORED in output:
        return "restored"
    return "unchanged" if UNCHANGED in output else "ran"


def in_use(output: str) -> bool:
    """Tell from the output of a failed `dvc repro --single-item` whether another process was at work on the stage."""
    return any(words in output for words in IN_USE)


@dataclass(frozen=True)
class Locked:
    """The entry of a stage in dvc.lock.

    Attributes:
        deps: Path of each dependency -> MD5 checksum.
        outs: Path of each output -> MD5 checksum.
        params: File -> key -> value of each parameter.
    """

    deps: Mapping[str, str]
    outs: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]


def read_lock(folder: Path) -> dict[str, Locked]:
    """Read a folder's dvc.lock, which says from which inputs (by their checksums) each output was made.

    Returns:
        Name of each stage -> its entry; empty if there is no dvc.lock.

    Raises:
        UserError: if it is not what DVC writes.
    """
    path = folder / LOCK
    try:
        stages = (read_yaml(path, LARGEST_LOCK) or {}).get("stages", {}) if path.exists() else {}
        return {
            name: Locked(
                {dep["path"]: dep["md5"] for dep in entry.get("deps", [])},
                {out["path"]: out["md5"] for out in entry.get("outs", [])},
                entry.get("params", {}),
            )
            for name, entry in stages.items()
        }
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; restore it from Git, or run 'dvc repro' there") from None


@contextlib.contextmanager
def lock_in_order(serial: Sequence[str]) -> Iterator[None]:
    """Leave the stages in dvc.lock in the order that running them one after another would give.

    DVC appends a stage to dvc.lock when the stage ends, and stages that run in parallel end in any order. A run that was
    interrupted or failed may have added some already: until a block ends without an exception, a file keeps the names of
    the stages that dvc.lock had before the first.

    Args:
        serial: The stages in the order of `dvc repro`. Stages that dvc.lock has before the block keep their places.
    """
    if ORDER.exists():
        before = ORDER.read_text(encoding="utf-8", errors="replace").splitlines()
    else:
        before = [name for name, _ in blocks(_lock_text())[1]]
        ORDER.parent.mkdir(parents=True, exist_ok=True)
        write_text(ORDER, "\n".join(before))
    try:
        yield
    finally:  # nothing writes the file any more
        if text := _lock_text():
            write_text(LOCK, ordered(text, [*before, *serial]))
    ORDER.unlink(missing_ok=True)


def ordered(text: str, names: Sequence[str]) -> str:
    """Sort the stages of a dvc.lock.

    Args:
        text: Text of a dvc.lock.
        names: Names of stages in the wanted order; of a name that occurs twice, the first place counts.

    Returns:
        The text with its stages in that order; stages that are not named come last, in the order they had.
    """
    head, parts = blocks(text)
    place = {name: number for number, name in reversed(list(enumerate(names)))}
    parts.sort(key=lambda part: place.get(part[0], len(names)))
    return head + "".join(part for _, part in parts)


def _lock_text() -> str:
    path = Path(LOCK)
    return path.read_text(encoding="utf-8") if path.exists() else ""


def experiment_ref(base: str, name: str) -> str:
    """Return the Git reference under which DVC looks for an experiment.

    It is needed to save an experiment where `dvc exp save` refuses to, because it requires the outputs of every stage.

    Args:
        base: Full hash of the commit that the experiment starts from.
        name: Name of the experiment.
    """
    return f"refs/exps/{base[:2]}/{base[2:]}/{name}"


def experiments() -> list[tuple[str, str]]:
    """Return the name and commit of every finished experiment in this repository.

    They are read from Git, because `dvc exp list` shortens the hashes of the commits.
    """
    listed = git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    pairs = [line.split() for line in listed.splitlines()]
    # Other references below refs/exps belong to DVC itself, such as those of its queue.
    return [(ref.split("/")[-1], commit) for ref, commit in pairs if re.fullmatch(r"refs/exps/\w{2}/\w{38}/[^/]+", ref)]


def read_at(commit: str, path: str) -> str:
    """Read an output as it was at a commit, from DVC's cache or, if it is not there, its default remote.

    Args:
        commit: Hash of the commit.
        path: The output, or a file in one.

    Raises:
        UserError: if neither holds it, or DVC cannot read the project as it was then; it ends with DVC's reason.
    """
    from dvc.api import DVCFileSystem

    reason = ""
    inside = git("rev-parse", "--show-prefix")  # of a project that is a folder of a larger repository
    below: dict[str, Any] = {"subrepos": True} if inside else {}
    # With a remote DVC makes its file system first, for which a plugin may be missing, or a password.
    without: dict[str, Any] = {"core": {"remote": "none"}, "remote": {"none": {"url": os.devnull}}}
    for config in (without, {}):
        try:
            return str(DVCFileSystem(rev=commit, config=config, **below).read_text(f"{inside}{path}", encoding="utf-8"))
        except Exception as error:  # of DVC, of the remote's library, or of Git
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    raise UserError(
        f"{path} is in neither DVC's cache nor its default remote, or cannot be read ({reason[:200]}); run 'make repro' "
        "in a checkout of that version, or fetch its results with 'dvc pull'"
    )
