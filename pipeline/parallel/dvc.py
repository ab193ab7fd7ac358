"""Everything that this project uses of DVC beyond `dvc.api` and its command line.

DVC guarantees none of it, so it is kept in this one file, and each part says why it is needed. It is known to work with
the versions that pyproject.toml allows. Before you raise that bound, run tests/parallel/test_dvc.py with the new DVC:
it tests every assumption and names those that no longer hold. One more assumption is elsewhere: stages/process.py reads
DVC_STAGE, the variable that DVC sets for a stage's command, because stages import nothing from this module.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pipeline.config.parsing import LARGEST_LOCK, read_yaml
from pipeline.parallel.lockfile import Stages, blocks, parse, plain_blocks, with_stages
from pipeline.support.errors import UserError
from pipeline.support.files import write_text
from pipeline.support.git import git

#: The file in which DVC records what each stage was run with.
LOCK = "dvc.lock"
#: While stages run, or if they did not end well: the names of the stages that dvc.lock had before, a line each.
ORDER = Path(".dvc/tmp/side-by-side.order")
#: Seconds to wait for another DVC process that is using a stage's files.
PATIENCE = 10.0
#: Seconds to wait for one of DVC's locks at most, and seconds between two attempts.
LONGEST, INTERVAL = 600.0, 0.01

#: What DVC prints about a stage that it runs, restores from its run-cache, or finds unchanged.
RUNNING, RESTORED, UNCHANGED = "Running stage", "is cached - skipping run", "didn't change, skipping"

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
                with self._repo.lock, self._reading([self._stages[name] for name in names]), _each_file_once():
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
def _each_file_once() -> Iterator[None]:
    """During the block, look at each file once: DVC looks at it for each stage that depends on it.

    A thousand stages depend on the same dozen files of code.
    """
    from dvc.output import Output

    get_hash = Output._get_hash_meta
    hashes: dict[Any, Any] = {}

    def known_hash(self: Any) -> Any:
        key = (self.fs.protocol, self.fs_path, self.hash_name, self.use_cache, self.dvcignore is None)
        if key not in hashes:
            hashes[key] = get_hash(self)
        return hashes[key]

    Output._get_hash_meta = known_hash
    try:
        yield
    finally:
        Output._get_hash_meta = get_hash


@contextlib.contextmanager
def open_repository() -> Iterator[Repository]:
    """Yield the DVC repository of the current folder.

    Raises:
        UserError: if DVC reports an error, on opening (it cannot read dvc.yaml, say) or during the block.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    parse_files_once()
    read_and_write_single_stages()
    survive_killed_writers()
    try:
        with Repo(".", _wait_for_lock=True) as repo:  # as --wait-for-lock does
            yield Repository(repo)
    except DvcException as error:
        raise UserError(f"DVC: {str(error).strip() or type(error).__name__}; fix it and run again") from None


def run_command(arguments: Sequence[str]) -> int:
    """Run a DVC command in this process: a separate `dvc` process would import DVC anew each time.

    Args:
        arguments: The command-line arguments, without the `dvc` itself.

    Returns:
        The exit status.
    """
    from dvc.cli import main

    return int(main(list(arguments)))


def ask_for_locks_often() -> None:
    """Make this process try to take DVC's locks every `INTERVAL` seconds, for up to `LONGEST` seconds.

    By default DVC tries twice a second, and gives up on some locks after three seconds. Here many stages may end at the
    same time, each of which needs the locks for a few milliseconds.
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


@cache
def survive_killed_writers() -> None:
    """Make this process replace DVC's file of read and write locks as a whole, and take a damaged one for an empty one.

    DVC writes it in place, many times a stage. Where a DVC is killed meanwhile, the file stays cut off, and every later
    DVC refuses to work until somebody deletes it. What a damaged file said of other processes is lost either way.
    """
    import dvc.rwlock
    from dvc.lock import make_lock
    from voluptuous import Invalid

    @contextlib.contextmanager
    def edit(folder: str, fs: Any, hardlink: bool) -> Iterator[Any]:
        path = Path(folder, dvc.rwlock.RWLOCK_FILE)
        guard = make_lock(fs.join(folder, dvc.rwlock.RWLOCK_LOCK), tmp_dir=folder, hardlink_lock=hardlink)
        with guard:  # nobody else writes
            try:
                lock = dvc.rwlock.SCHEMA(json.loads(path.read_text(encoding="utf-8")))
            except (FileNotFoundError, ValueError, Invalid):
                lock = dvc.rwlock.SCHEMA({})
            lock["read"], lock["write"] = defaultdict(list, lock["read"]), defaultdict(dict, lock["write"])
            yield lock
            new = path.with_name(f"{path.name}.{os.getpid()}")
            new.write_text(json.dumps(lock), encoding="utf-8")
            new.replace(path)

    dvc.rwlock._edit_rwlock = edit


@cache
def parse_files_once() -> None:
    """Make this process parse a YAML file once for each text that it holds, however often DVC reads it.

    DVC reads params.yaml some ten times for each stage that depends on parameters, and to parse it takes most of the time
    that DVC spends on such a stage.
    """
    from dvc.utils.serialize import _yaml

    each_time = _yaml.parse_yaml

    @lru_cache(maxsize=1024)
    def once(text: str, path: str) -> bytes:  # what fails is not kept
        return pickle.dumps(each_time(text, path))

    def parsed(text: str, path: Any, typ: str = "safe") -> Any:
        # The other type keeps comments, for DVC to change and write.
        return pickle.loads(once(text, str(path))) if typ == "safe" else each_time(text, path, typ)  # noqa: S301 - ours

    _yaml.parse_yaml = parsed


@cache
def read_and_write_single_stages() -> None:
    """Make this process parse of dvc.lock only what it asks for, and write only what has changed.

    dvc.yaml is parsed once for each text that it has. See `pipeline.parallel.lockfile`. A dvc.lock that is not as DVC
    writes it is read and written by DVC.
    """
    from dvc.dvcfile import Lockfile, ProjectFile
    from dvc.stage.serialize import to_lockfile
    from dvc.utils.serialize._yaml import _dump

    whole_load, whole_dump, load_yaml = Lockfile._load_yaml, Lockfile.dump_stages, ProjectFile._load_yaml

    def text_of(file: Any) -> str | None:
        path = Path(file.path)
        if file.repo.fs.protocol != "local" or not path.is_file():
            return None
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return None

    def parts_of(file: Any) -> list[tuple[str, str]] | None:
        text = text_of(file)
        return None if text is None else plain_blocks(text)

    @lru_cache(maxsize=16_384)
    def valid(part: tuple[str, str]) -> bool:
        try:
            Lockfile.SCHEMA(parse([part]))
        except Exception:
            return False
        return True

    def load(self: Any, **keywords: Any) -> Any:
        parts = None if keywords else parts_of(self)
        if parts is None:
            return whole_load(self, **keywords)

        def check(part: tuple[str, str]) -> None:
            if not valid(part):
                whole_load(self)  # DVC says what is damaged

        return {"schema": "2.0", "stages": Stages(parts, check)}, LOCK

    def dump(self: Any, stages: Sequence[Any], **keywords: Any) -> None:
        parts = parts_of(self)
        if not stages or parts is None:
            whole_dump(self, stages, **keywords)
            return
        made: dict[str, Any] = {}
        for stage in stages:
            made.update(to_lockfile(stage, **keywords))
        known = parse([part for part in parts if part[0] in made])["stages"]
        changed = {name: value for name, value in made.items() if known.get(name, {}) != value}
        if changed:
            write_text(Path(self.path), with_stages(parts, changed, _dump))
            self.repo.scm_context.track_file(self.relpath)

    pipelines: dict[str, tuple[str, bytes]] = {}

    def load_pipeline(self: Any, **keywords: Any) -> Any:
        text = None if keywords else text_of(self)
        if text is None:
            return load_yaml(self, **keywords)
        if pipelines.get(self.path, ("",))[0] != text:
            data, read = load_yaml(self)
            if read != text:  # it is being edited
                return data, read
            pipelines[self.path] = text, pickle.dumps(data)
        return pickle.loads(pipelines[self.path][1]), text  # noqa: S301 - what the line above has made

    Lockfile._load_yaml, Lockfile.dump_stages = load, dump
    ProjectFile._load_yaml = load_pipeline


def give_commands_to(run: Callable[[str, str, Mapping[str, str]], int | None]) -> None:
    """Make this process give the commands of stages to a function instead of a shell.

    DVC has no such hook: it starts a shell for each command.

    Args:
        run: Takes a command, its folder and its environment, and returns the exit status, or None to have a shell run
            it. It is called with SIGINT ignored, which is for the command to handle.
    """
    import dvc.stage.run
    from dvc.stage.exceptions import StageCmdFailedError

    by_shell = dvc.stage.run._run

    def given(executable: str, command: str, **keywords: Any) -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            status = run(command, keywords["cwd"], keywords["env"])
        finally:
            signal.signal(signal.SIGINT, before)
        if status is None:
            by_shell(executable, command, **keywords)
        elif status:
            raise StageCmdFailedError(command, status)

    dvc.stage.run._run = given


def outcome(output: str) -> Outcome:
    """Tell from the output of `dvc repro --single-item` what it did with its stage: its exit status does not say."""
    if RESTORED in output:
        return "restored"
    return "unchanged" if UNCHANGED in output else "ran"


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
