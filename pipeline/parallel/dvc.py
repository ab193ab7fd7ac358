"""All that this project uses of DVC beyond `dvc.api` and its command line.

Nothing here is promised by DVC, so it stands in one file, each part with the reason for it. It is known to work with the
versions that pyproject.toml allows. Before you raise that bound, run tests/parallel/test_dvc.py with the new DVC: it tests
every assumption and names those that no longer hold. One more is elsewhere: stages/process.py reads DVC_STAGE, the variable
that DVC sets for a stage's command, because stages import nothing from here.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pipeline.config.parsing import LARGEST_LOCK, read_yaml
from pipeline.support.errors import UserError
from pipeline.support.files import write_text
from pipeline.support.git import git

#: The file in which DVC keeps what each stage was run with.
LOCK = "dvc.lock"
#: Seconds to wait for another DVC that uses a stage's files.
PATIENCE = 10.0
#: Seconds to wait for one of DVC's locks, and between two attempts.
LONGEST, INTERVAL = 600.0, 0.01

#: DVC's sentences about a stage that it runs, that it restores from its run-cache, and that has not changed.
RUNNING, RESTORED, UNCHANGED = "Running stage", "is cached - skipping run", "didn't change, skipping"

Outcome = Literal["ran", "restored", "unchanged"]


class Repository:
    """DVC's view of a project, as `open_repository` gives it.

    The command line has `dvc dag` and `dvc status`, each of which loads the repository anew, and nothing that says which
    paths a stage takes from others.
    """

    def __init__(self, repo: Any) -> None:
        self._repo = repo

    @cached_property
    def _stages(self) -> dict[str, Any]:
        import networkx as nx

        return {stage.addressing: stage for stage in nx.dfs_postorder_nodes(self._repo.index.graph)}

    def dependencies(self) -> dict[str, list[str]]:
        """The stages in the order of `dvc repro`, each with those that it depends on directly."""
        below = self._repo.index.graph.successors  # edges point to dependencies
        return {name: [other.addressing for other in below(stage)] for name, stage in self._stages.items()}

    def inputs(self) -> dict[str, list[str]]:
        """For each stage the paths that other stages make for it, as `dvc pull` takes them.

        Of a dependency that is a folder with outputs of others in it, these outputs.
        """
        root, found = Path(self._repo.root_dir), {}
        for name, below in self.dependencies().items():
            outputs = [Path(out.fs_path) for other in below for out in self._stages[other].outs]
            paths: dict[Path, None] = {}
            for dependency in (Path(dep.fs_path) for dep in self._stages[name].deps):
                for out in outputs:
                    if dependency == out or out in dependency.parents:
                        paths[dependency] = None
                    elif dependency in out.parents:
                        paths[out] = None
            found[name] = [path.relative_to(root).as_posix() for path in paths]
        return found

    def changed(self, names: Collection[str]) -> set[str]:
        """Those of the named stages whose command, dependencies, parameters or outputs differ from dvc.lock.

        Raises:
            UserError: Another DVC is still at work on their files after `PATIENCE` seconds.
        """
        from dvc.lock import LockError

        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self._repo.lock:
                    return {name for name, stage in self._stages.items() if name in names and stage.changed()}
            except LockError as error:
                if time.monotonic() > deadline:
                    raise UserError(f"another DVC is at work here: {error}") from None
            time.sleep(0.5)

    def default_remote(self) -> tuple[str, str] | None:
        """Name and URL of the default remote; the URL of a folder is absolute, as `dvc remote list` does not promise."""
        name = self._repo.config["core"].get("remote")
        url = self._repo.config["remote"].get(name, {}).get("url") if name else None
        return (name, url) if url else None


@contextlib.contextmanager
def open_repository() -> Iterator[Repository]:
    """The DVC repository of the current folder. Raises UserError for what DVC cannot read."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(".", _wait_for_lock=True) as repo:  # what --wait-for-lock sets
            yield Repository(repo)
    except DvcException as error:
        raise UserError(f"DVC: {str(error).strip() or type(error).__name__}; fix it and run again") from None


def run_command(arguments: Sequence[str]) -> int:
    """Run a DVC command in this process, for a `dvc` of its own would import DVC anew each time.

    Args:
        arguments: Those of the command line.

    Returns:
        The exit status.
    """
    from dvc.cli import main

    return int(main(list(arguments)))


def ask_for_locks_often() -> None:
    """Make this process ask for DVC's locks every `INTERVAL` seconds, for up to `LONGEST`.

    DVC asks twice a second and gives up on some locks after three seconds. Many stages that end at once need them for
    milliseconds each.
    """
    import dvc.lock

    def lock(self: Any, *_: object) -> None:
        deadline = time.monotonic() + LONGEST
        while True:
            try:
                self._do_lock()
            except dvc.lock.LockError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(INTERVAL)
            else:
                return

    dvc.lock.Lock.lock = lock


def outcome(output: str) -> Outcome:
    """What `dvc repro --single-item` did with its stage, from its output: its exit status does not say."""
    if RESTORED in output:
        return "restored"
    return "unchanged" if UNCHANGED in output else "ran"


@dataclass(frozen=True)
class Locked:
    """What dvc.lock says of a stage. deps, outs: path -> checksum. params: file -> key -> value."""

    deps: Mapping[str, str]
    outs: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]


def read_lock(folder: Path) -> dict[str, Locked]:
    """The stages in a folder's dvc.lock: with which inputs, by their checksums, each output there was made.

    Returns:
        An entry for each stage; none where there is no such file.
    """
    path = folder / LOCK
    stages = (read_yaml(path, LARGEST_LOCK) or {}).get("stages", {}) if path.exists() else {}
    return {
        name: Locked(
            {dep["path"]: dep["md5"] for dep in entry.get("deps", [])},
            {out["path"]: out["md5"] for out in entry.get("outs", [])},
            entry.get("params", {}),
        )
        for name, entry in stages.items()
    }


@contextlib.contextmanager
def lock_in_order(serial: Sequence[str]) -> Iterator[None]:
    """Leave dvc.lock as one stage after the other would: DVC appends a stage when it ends, and these end in any order.

    Args:
        serial: The stages in the order of `dvc repro`. Those that dvc.lock has before the block stay in their places.
    """
    before = [name for name, _ in _blocks(_lock_text())[1]]
    try:
        yield
    finally:  # nobody writes it any more
        if text := _lock_text():
            write_text(LOCK, ordered(text, [*before, *serial]))


def ordered(text: str, names: Sequence[str]) -> str:
    """The text of a dvc.lock with its stages in the order of `names`, where a name may stand twice; others at the end."""
    head, blocks = _blocks(text)
    place = {name: number for number, name in reversed(list(enumerate(names)))}
    blocks.sort(key=lambda block: place.get(block[0], len(names)))
    return head + "".join(block for _, block in blocks)


def _blocks(text: str) -> tuple[str, list[tuple[str, str]]]:
    """What precedes the first stage; name and text of each. A name is indented by two spaces, what follows by more."""
    head, *blocks = re.split(r"^(?=  [^\s#])", text, flags=re.MULTILINE)
    return head, [(block.partition(":")[0].strip(), block) for block in blocks]


def _lock_text() -> str:
    path = Path(LOCK)
    return path.read_text(encoding="utf-8") if path.exists() else ""


def experiment_ref(base: str, name: str) -> str:
    """The Git reference of an experiment. base: the whole hash of the commit that it starts from.

    Needed where `dvc exp save` refuses: it wants outputs of every stage.
    """
    return f"refs/exps/{base[:2]}/{base[2:]}/{name}"


def experiments() -> list[tuple[str, str]]:
    """Name and commit of every finished experiment here; `dvc exp list` shortens the hash of the commit."""
    listed = git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    pairs = [line.split() for line in listed.splitlines()]
    # Other references below refs/exps are DVC's own, as of its queue.
    return [(ref.split("/")[-1], commit) for ref, commit in pairs if re.fullmatch(r"refs/exps/\w{2}/\w{38}/[^/]+", ref)]
