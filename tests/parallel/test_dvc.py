"""What pipeline/parallel/dvc.py takes for granted of DVC, asked of the installed one.

Each failure names what no longer holds and the function that relies on it.
"""

from __future__ import annotations

import re
import sqlite3
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pipeline.parallel import dvc
from pipeline.support.errors import UserError
from pipeline.support.git import git
from stages.process import STAGE
from tests.clones import Clone
from tests.parallel.assumptions import VERSION, holds
from tests.paths import ROOT

#: DVC's own, of the packages that it uses.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


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


def test_databases_of_dvc_that_cannot_be_used_are_a_line(ran: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **named: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.chdir(ran.folder)
    monkeypatch.setattr("dvc.repo.Repo.__init__", full)
    with (
        pytest.raises(UserError, match=r"^DVC: .* \(database or disk is full\); .* DVC_SITE_CACHE_DIR$"),
        dvc.open_repository(),
    ):
        pass


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


def test_an_output_is_read_where_the_project_is_a_folder_of_a_larger_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    Clone(tmp_path).run("git", "init", "--quiet")
    inner = Clone(tmp_path / "inner")
    inner.run("dvc", "init", "--quiet", "--subdir")
    (inner.folder / "a.txt").write_text("an output", encoding="utf-8")
    inner.run("dvc", "add", "--quiet", "a.txt")
    inner.commit("one")
    (inner.folder / "a.txt").unlink()
    monkeypatch.chdir(inner.folder)
    assert dvc.read_at(git("rev-parse", "HEAD"), "a.txt") == "an output"
