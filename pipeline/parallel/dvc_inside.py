"""What this project changes in DVC's inside, for the processes that it runs DVC in; `dvc.py` has what it asks of DVC.

DVC guarantees none of it. Each part says why it is needed, and tests/parallel/test_dvc_inside.py tests what it takes for
granted.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pickle
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pipeline.parallel.lockfile import LOCK, Stages, parse, plain_blocks, with_stages
from pipeline.support.files import write_text

#: Seconds to wait for one of DVC's locks at most, and seconds between two attempts.
LONGEST, INTERVAL = 600.0, 0.01


def change_inside() -> None:
    """Change in this process, for good, what every process that runs DVC is to have changed."""
    have_a_user()
    parse_files_once()
    read_and_write_single_stages()
    find_staged_files_at_once()
    survive_killed_writers()


def have_a_user() -> None:
    """Name a user where the system has none, as in a container that runs under a number: DVC asks for the name."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = "nobody"


@contextlib.contextmanager
def each_file_once() -> Iterator[None]:
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

    A lock that is gone when it is to be given back is no error here. DVC takes away those of processes that do not live
    on its own machine, which in a folder that several machines or containers share are those of the others: their stages
    would fail at their very end.
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

    def release_write(lock: Any, info: Any, paths: Iterable[str]) -> None:
        for path in paths:
            if lock["write"].get(path) == info:
                del lock["write"][path]

    def release_read(lock: Any, info: Any, paths: Iterable[str]) -> None:
        for path in paths:
            if left := [reader for reader in lock["read"].get(path, ()) if reader != info]:
                lock["read"][path] = left
            else:
                lock["read"].pop(path, None)

    dvc.rwlock._edit_rwlock = edit
    dvc.rwlock._release_write, dvc.rwlock._release_read = release_write, release_read


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
        if pipelines.get(self.path, (None,))[0] != text:
            data, read = load_yaml(self)
            if read != text:  # it is being edited
                return data, read
            pipelines[self.path] = text, pickle.dumps(data)
        return pickle.loads(pipelines[self.path][1]), text  # noqa: S301 - what the line above has made

    Lockfile._load_yaml, Lockfile.dump_stages = load, dump
    ProjectFile._load_yaml = load_pipeline


@cache
def find_staged_files_at_once() -> None:
    """Make this process look a file up that DVC has staged in memory, instead of reading the names of all.

    DVC writes the list of each folder that it hashes into an in-memory file system, whose `info` first asks of every path
    there whether it is below the one looked for: with 2,000 stages three quarters of the time of a run.
    """
    from fsspec.implementations.memory import MemoryFileSystem

    among_all = MemoryFileSystem.info

    def info(self: Any, path: str, **keywords: Any) -> Any:
        path = self._strip_protocol(path)
        found = None if path in self.pseudo_dirs else self.store.get(path)
        if found is None:
            return among_all(self, path, **keywords)
        return {"name": path, "size": found.size, "type": "file", "created": getattr(found, "created", None)}

    MemoryFileSystem.info = info


def forget_staged_files() -> None:
    """Remove what DVC has staged in memory during the commands that this process has run: it never does."""
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


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
