"""What pipeline/parallel/dvc.py and dvc_inside.py take for granted of DVC, asked of the installed one.

Each failure names what no longer holds and the function that relies on it.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from pipeline.parallel import dvc, dvc_inside
from pipeline.support.errors import UserError
from stages.process import STAGE
from tests.clones import Clone
from tests.parallel.test_side_by_side import trivial
from tests.paths import ROOT
from tests.waiting import LIMIT

VERSION = importlib.metadata.version("dvc")
#: DVC's own, of the packages that it uses.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def holds(condition: object, assumption: str, function: Callable[..., object] | str) -> None:
    """Fail with the assumption and where it is made."""
    where = function if isinstance(function, str) else f"{function.__qualname__} in {function.__module__}"
    assert condition, f"DVC {VERSION}: {assumption} no longer holds; see {where}"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository that has run: `b` and `a` depend on `z`, and `whole` on the folder that holds what `a` makes."""
    clone = trivial(
        tmp_path_factory.mktemp("dvc"),
        {"z": (f"echo ${STAGE} > stage", []), "a": ("cat p.yaml", ["z"]), "b": ("true", ["z"])},
    )
    clone.edit("dvc.yaml", '"outs": [\n    "a.txt"\n   ]', '"outs": ["folder/a.txt"], "params": [{"p.yaml": ["k"]}]')
    clone.edit("dvc.yaml", "echo a > a.txt", "echo a > folder/a.txt")
    whole = '"whole": {"cmd": "cat folder/a.txt > whole.txt", "deps": ["folder"], "outs": ["whole.txt"]}, "z": {'
    clone.edit("dvc.yaml", '"z": {', whole)
    (clone.folder / "p.yaml").write_text("k: 7\n", encoding="utf-8")
    (clone.folder / "folder").mkdir()
    clone.repro()
    clone.commit("ran")
    return clone


@pytest.fixture
def repository(ran: Clone, monkeypatch: pytest.MonkeyPatch) -> Iterator[dvc.Repository]:
    monkeypatch.chdir(ran.folder)
    with dvc.open_repository() as found:
        yield found


def test_the_installed_dvc_is_one_that_was_tried() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bound = next(Requirement(text) for text in project["dependencies"] if Requirement(text).name == "dvc")
    assert VERSION in bound.specifier, f"DVC {VERSION} was not tried; see the comment in pyproject.toml"


def test_the_graph_lists_dependencies_and_the_order_is_that_of_repro(ran: Clone, repository: dvc.Repository) -> None:
    found = repository.dependencies()
    wanted = {"z": [], "a": ["z"], "b": ["z"], "whole": ["a"]}
    holds(found == wanted, "an edge of repo.index.graph points to a dependency", dvc.Repository.dependencies)
    order = re.findall(r"^Running stage '(.+)'", ran.run("dvc", "repro", "--dry", "--force"), re.MULTILINE)
    holds(order == list(found), "'dvc repro' runs in the order of dfs_postorder_nodes", dvc.Repository.dependencies)


def test_dependencies_and_outputs_have_absolute_paths(repository: dvc.Repository) -> None:
    wanted = {"z": [], "a": ["z.txt"], "b": ["z.txt"], "whole": ["folder/a.txt"]}
    holds(repository.inputs() == wanted, "fs_path of stage.deps and stage.outs is absolute", dvc.Repository.inputs)


def test_a_stage_says_whether_it_has_changed(ran: Clone, repository: dvc.Repository) -> None:
    holds(repository.changed(["a", "b"]) == set(), "stage.changed() is false after repro", dvc.Repository.changed)
    (ran.folder / "p.yaml").write_text("k: 8\n", encoding="utf-8")
    try:
        with dvc.open_repository() as again:
            holds(again.changed(["a", "b"]) == {"a"}, "stage.changed() sees a parameter", dvc.Repository.changed)
    finally:
        (ran.folder / "p.yaml").write_text("k: 7\n", encoding="utf-8")


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


def test_a_stage_whose_files_another_dvc_uses_is_waited_for_and_then_told(
    ran: Clone, repository: dvc.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc, "PATIENCE", 0.0)
    lock = '{"write": {"%s": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}'
    path = ran.folder / ".dvc/tmp/rwlock"
    path.write_text(lock % (ran.folder / "a.txt").parent, encoding="utf-8")
    try:
        with pytest.raises(UserError, match="another DVC is at work here"):
            repository.changed(["a"])
    except Exception as error:
        holds(False, f"a stage that is in use raises LockError, not {error!r}, which", dvc.Repository.changed)
    finally:
        path.unlink()


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


def test_the_default_remote_comes_with_an_absolute_path(ran: Clone, repository: dvc.Repository) -> None:
    holds(repository.default_remote() is None, "config['core']['remote'] is absent", dvc.Repository.default_remote)
    ran.run("dvc", "remote", "add", "-d", "shelf", "shelf")
    try:
        with dvc.open_repository() as again:
            found = again.default_remote()
        holds(found == ("shelf", str(ran.folder / "shelf")), "config['remote']", dvc.Repository.default_remote)
    finally:
        ran.run("dvc", "remote", "remove", "shelf")


def test_what_dvc_cannot_read_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        with pytest.raises(UserError, match=r"^DVC: .*not inside of a DVC repository"), dvc.open_repository():
            pass
    except Exception as error:
        holds(False, f"a missing repository raises DvcException, not {error!r}, which", dvc.open_repository)


@pytest.mark.parametrize(
    "held", ["x\n", "stages: [1]\n", "stages:\n  a: 5\n", "stages:\n  a:\n    deps:\n    - path: b\n"]
)
def test_a_damaged_lock_file_is_a_line(tmp_path: Path, held: str) -> None:
    (tmp_path / "dvc.lock").write_text(held, encoding="utf-8")
    with pytest.raises(UserError, match=r"dvc\.lock: damaged; restore it from Git, or run 'dvc repro' there"):
        dvc.read_lock(tmp_path)


def test_a_command_runs_in_this_process(ran: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ran.folder)
    holds(dvc.run_command(["root"]) == 0, "dvc.cli.main returns the exit status", dvc.run_command)
    holds(dvc.run_command(["repro", "-q", "none"]) != 0, "dvc.cli.main returns the exit status", dvc.run_command)


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


def test_the_output_of_repro_tells_what_it_did(ran: Clone) -> None:
    def told(*arguments: str) -> str:
        return ran.run("dvc", "repro", "--single-item", *arguments, "b")

    holds(dvc.outcome(told()) == "unchanged", f"the sentence '{dvc.UNCHANGED}'", dvc.outcome)
    forced = told("--force")
    holds(dvc.outcome(forced) == "ran" and dvc.RUNNING in forced, f"the sentence '{dvc.RUNNING}'", dvc.outcome)
    (ran.folder / "b.txt").unlink()
    holds(dvc.outcome(told()) == "restored", f"the sentence '{dvc.RESTORED}'", dvc.outcome)


def test_the_lock_file_holds_what_a_stage_was_run_with(ran: Clone) -> None:
    from hashlib import md5

    found = dvc.read_lock(ran.folder)
    sums = {name: md5((ran.folder / name).read_bytes()).hexdigest() for name in ("z.txt", "folder/a.txt")}
    holds(set(found) == {"z", "a", "b", "whole"}, "dvc.lock has 'stages'", dvc.read_lock)
    holds(found["a"].deps == {"z.txt": sums["z.txt"]}, "'deps' have 'path' and 'md5'", dvc.read_lock)
    holds(found["a"].outs == {"folder/a.txt": sums["folder/a.txt"]}, "'outs' have 'path' and 'md5'", dvc.read_lock)
    holds(found["a"].params == {"p.yaml": {"k": 7}}, "'params' hold values", dvc.read_lock)
    assert dvc.read_lock(ran.folder / "folder") == {}


def test_the_text_of_the_lock_file_can_be_sorted_by_stage(ran: Clone) -> None:
    text = (ran.folder / "dvc.lock").read_text(encoding="utf-8")
    serial = list(dvc.read_lock(ran.folder))
    turned = dvc.ordered(text, serial[::-1])
    holds(re.findall(r"^  (\w+):$", turned, re.MULTILINE) == serial[::-1], "a stage is a block", dvc.ordered)
    holds(dvc.ordered(turned, serial) == text, "a stage is a block whose name is indented by two spaces", dvc.ordered)
    # DVC appends what it runs for the first time: the reason for all this.
    (ran.folder / "dvc.lock").write_text(turned, encoding="utf-8")
    ran.run("dvc", "repro", "--force", "--single-item", "b")
    now = list(dvc.read_lock(ran.folder))
    (ran.folder / "dvc.lock").write_text(text, encoding="utf-8")
    holds(now == serial[::-1], "a stage that runs again keeps its place in dvc.lock", dvc.lock_in_order)


def test_the_lock_keeps_its_order_and_takes_new_stages_in_that_of_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def write(*names: str) -> None:
        stages = "".join(f"  {name}:\n    cmd: {name}\n" for name in names)
        Path("dvc.lock").write_text(f"schema: '2.0'\nstages:\n{stages}", encoding="utf-8")

    write("a", "b")
    with dvc.lock_in_order(["b", "c@1", "d"]):
        write("d", "a", "c@1", "b")
    left = Path("dvc.lock").read_text(encoding="utf-8")
    write("a", "b", "c@1", "d")
    assert left == Path("dvc.lock").read_text(encoding="utf-8")


def test_an_experiment_is_a_reference_named_after_its_base(ran: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ran.folder)
    head = ran.run("git", "rev-parse", "HEAD").strip()
    (ran.folder / "p.yaml").write_text("k: 9\n", encoding="utf-8")
    ran.run("dvc", "exp", "run", "--name", "one")
    ran.run("git", "reset", "--quiet", "--hard")
    found = dvc.experiments()
    holds([name for name, _ in found] == ["one"], "an experiment lies in refs/exps/", dvc.experiments)
    commit = found[0][1]
    shown = ran.run("git", "show", f"{commit}:p.yaml")
    holds(shown == "k: 9\n", "the reference of an experiment is its commit", dvc.experiments)
    made = ran.run("git", "rev-parse", dvc.experiment_ref(head, "one")).strip()
    holds(made == commit, "refs/exps/ is followed by base and name", dvc.experiment_ref)
    ran.run("git", "update-ref", dvc.experiment_ref(head, "two"), commit)
    listed = ran.run("dvc", "exp", "list", "--name-only").split()
    holds(set(listed) == {"one", "two"}, "'dvc exp list' lists such references", dvc.experiment_ref)


def test_a_command_knows_its_stage(ran: Clone) -> None:
    found = (ran.folder / "stage").read_text(encoding="utf-8").strip()
    holds(found == "z", f"the variable {STAGE} is a stage's name", "stages/process.py")
