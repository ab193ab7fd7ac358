"""What pipeline/parallel/dvc_inside.py takes for granted of DVC and changes in it, asked of the installed one.

Each failure names what no longer holds and the function that relies on it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.parallel import dvc, dvc_inside
from pipeline.support.errors import UserError
from tests.clones import Clone
from tests.parallel.assumptions import holds
from tests.waiting import LIMIT

#: DVC's own, of the packages that it uses.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_each_file_is_looked_at_once_for_all_stages(
    repository: dvc.Repository, ran: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.output import Output

    repository.dependencies()  # reads dvc.yaml
    looked: list[str] = []
    build = Output._build

    def noted(self: Any, *given: Any, **named: Any) -> Any:
        looked.append(Path(self.fs_path).name)
        return build(self, *given, **named)

    monkeypatch.setattr(Output, "_build", noted)
    repository.changed(["z", "a", "b", "whole"])
    # z.txt as an output, and once as the dependency of two.
    holds(
        sorted(looked) == ["a.txt", "b.txt", "folder", "whole.txt", "z.txt", "z.txt"],
        "Output._get_hash_meta",
        dvc_inside.each_file_once,
    )
    path = ran.folder / "z.txt"
    text = path.read_text(encoding="utf-8")
    path.write_text("another\n", encoding="utf-8")
    try:
        found = repository.changed(["z", "a", "b", "whole"])
        holds(found == {"z", "a", "b"}, "nothing is kept from one look to the next", dvc_inside.each_file_once)
    finally:
        path.unlink()
        path.write_text(text, encoding="utf-8")


def test_a_pipeline_that_is_edited_is_read_again(ran: Clone, repository: dvc.Repository) -> None:
    repository.dependencies()
    path = ran.folder / "dvc.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"whole"', '"another"', 1), encoding="utf-8")
    try:
        with dvc.open_repository() as again:
            found = again.dependencies()
    finally:
        path.write_text(text, encoding="utf-8")
    holds(
        "another" in found and "whole" not in found, "ProjectFile._load_yaml", dvc_inside.read_and_write_single_stages
    )


def test_a_damaged_stage_is_told_as_dvc_tells_it(ran: Clone, repository: dvc.Repository) -> None:
    repository.dependencies()
    path = ran.folder / "dvc.lock"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("    cmd: cat p.yaml", "    cmt: cat p.yaml", 1), encoding="utf-8")
    try:
        with pytest.raises(UserError, match=r"^DVC: .*dvc\.lock' validation failed"), dvc.open_repository() as again:
            again.dependencies()
    finally:
        path.write_text(text, encoding="utf-8")


def test_a_file_of_locks_that_was_cut_off_is_taken_for_an_empty_one(ran: Clone, repository: dvc.Repository) -> None:
    path = ran.folder / ".dvc/tmp/rwlock"
    for damaged in ('{"write": {"', "[]", ""):
        path.write_text(damaged, encoding="utf-8")
        try:
            found = repository.changed(["a", "b"])
        except UserError as error:
            holds(False, f"'{error}': dvc.rwlock._edit_rwlock", dvc_inside.survive_killed_writers)
        assert found == set()
    assert not list(path.parent.glob("rwlock.[0-9]*"))


def test_a_lock_that_a_dvc_on_another_machine_took_away_is_no_error(ran: Clone) -> None:
    """Processes of other machines are none of that one's, so that it takes them for killed."""
    import dvc.rwlock
    from dvc.fs import localfs

    dvc_inside.survive_killed_writers()
    path = ran.folder / ".dvc/tmp/rwlock"
    other = {"pid": 2**22 + 1, "cmd": "dvc repro"}
    try:
        with dvc.rwlock.rwlock(str(path.parent), localfs, "mine", ["/read", "/both"], ["/written"], False):
            locks = json.loads(path.read_text(encoding="utf-8"))
            holds(
                set(locks["write"]) == {"/written"}, "rwlock notes what is written", dvc_inside.survive_killed_writers
            )
            locks["read"] = {"/both": [*locks["read"]["/both"], other]}
            locks["write"] = {"/else": other}
            path.write_text(json.dumps(locks), encoding="utf-8")
        assert json.loads(path.read_text(encoding="utf-8")) == {"read": {"/both": [other]}, "write": {"/else": other}}
    except AssertionError as error:
        holds(False, f"'{error}': dvc.rwlock._release_write", dvc_inside.survive_killed_writers)
    finally:
        path.unlink(missing_ok=True)


def test_a_lock_is_asked_for_until_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.lock import Lock, LockError, make_lock

    holds(hasattr(Lock, "_do_lock"), "Lock._do_lock asks once", dvc_inside.ask_for_locks_often)
    held, waiting = (make_lock(str(tmp_path / "lock")) for _ in range(2))
    holds(type(waiting) is Lock, "make_lock gives a Lock", dvc_inside.ask_for_locks_often)
    held.lock()
    with pytest.raises(LockError):
        waiting._do_lock()
    monkeypatch.setattr(Lock, "lock", Lock.lock)  # is undone at the end
    dvc_inside.ask_for_locks_often()
    attempts = []
    original = Lock._do_lock

    def counted(self: Lock) -> None:
        attempts.append(self)
        if len(attempts) == 50:  # DVC itself gives up after seven
            held.unlock()
        original(self)

    monkeypatch.setattr(Lock, "_do_lock", counted)
    thread = threading.Thread(target=waiting.lock, daemon=True)
    thread.start()
    thread.join(LIMIT)
    holds(waiting.is_locked, "Lock.lock calls _do_lock", dvc_inside.ask_for_locks_often)
    waiting.unlock()


def test_a_staged_folder_is_hashed_without_a_look_at_the_others_and_can_be_forgotten(
    ran: Clone, repository: dvc.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    class Store(dict[str, Any]):
        walks = 0

        def __iter__(self) -> Iterator[str]:
            self.walks += 1
            return super().__iter__()

    def changed() -> set[str]:
        path = ran.folder / "folder" / "a.txt"
        path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")  # or DVC would not hash the folder again
        return repository.changed(["whole"])

    store = Store()
    monkeypatch.setattr(MemoryFileSystem, "store", store)
    assert changed() == set()
    holds(len(store) > 0, "Tree.digest writes to MemoryFileSystem.store", dvc_inside.forget_staged_files)
    holds(not store.walks, "Tree.digest calls MemoryFileSystem.info", dvc_inside.find_staged_files_at_once)
    dvc_inside.forget_staged_files()
    assert not store
    assert changed() == set()
    with pytest.raises(FileNotFoundError):
        MemoryFileSystem().info("memory://nobody")


def test_a_file_is_parsed_once_for_each_text(ran: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.utils.serialize import _yaml

    dvc_inside.parse_files_once()  # for good, if nobody has; what follows is undone at the end
    parsed = []
    original = _yaml.parse_yaml

    def counted(text: str, path: str, typ: str = "safe") -> Any:
        parsed.append(Path(path).name)
        return original(text, path, typ)

    monkeypatch.setattr(_yaml, "parse_yaml", counted)
    monkeypatch.chdir(ran.folder)
    dvc_inside.parse_files_once.__wrapped__()
    for _ in range(2):
        with dvc.open_repository() as found:
            assert found.changed(["a"]) == set()
    holds(parsed.count("p.yaml") == 1, "load_yaml looks parse_yaml up in its module", dvc_inside.parse_files_once)


def test_a_file_that_is_parsed_once_is_read_as_it_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.fs import localfs
    from dvc.utils.serialize import _yaml, load_path

    path = tmp_path / "p.yaml"

    def read() -> Any:
        return load_path(str(path), localfs)

    dvc_inside.parse_files_once()
    path.write_text("k: {l: 7}\n", encoding="utf-8")
    read()["k"]["l"] = 8  # a caller's changes do not reach the next one
    assert read() == {"k": {"l": 7}}
    path.write_text("k: 9\n", encoding="utf-8")
    assert read() == {"k": 9}
    path.write_text("k: [\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(_yaml.YAMLFileCorruptedError, match=r"p\.yaml"):
            read()


def test_where_the_system_has_no_user_dvc_is_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "")
    dvc_inside.have_a_user()
    assert os.environ["USER"] == ""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    dvc_inside.have_a_user()
    assert os.environ["USER"] == "nobody"
