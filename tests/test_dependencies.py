"""The record cannot go stale: what a stage imports, and what dvc.yaml says it depends on, are the same files."""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path

import grimp
import pytest

from pipeline.config.reading import read_yaml
from tests.clones import Clone
from tests.paths import ROOT

STAGES = ("plan", "download", "split", "train", "eigenspectrum", "summarize", "figures")

#: What stages import and cannot change a result, and why.
HARMLESS = {
    "pipeline.support.errors": "words for a person, and exit statuses",
    "pipeline.config.arguments": "refuses an argument or passes it as it is",
    "stages.process": "ends the process; all that it sets for the arithmetic is in pipeline.support.portable",
}
#: Likewise, for some stages alone.
HARMLESS_FOR = {
    "pipeline.config": (
        STAGES[1:],
        "checks values that reach the stage through runs/ or DVC's params, its dependencies",
    ),
    "pipeline.handover": (
        ("download", "split", "train", "eigenspectrum"),
        "refuses a file or passes its values as they are; tests/handover/test_fuzz.py holds that",
    ),
    "pipeline.support.portable": (("plan", "download"), "sets arithmetic; these read and write text and whole numbers"),
}

#: In a folder that a stage depends on, but not imported by it: a change of them reruns it in vain.
IN_VAIN = {
    "pipeline.figures.cost": "a figure of a record, drawn by pipeline.report.record",
    "pipeline.figures.published_rows": "a figure of docs/reproductions.md, drawn by pipeline.experiments",
    "pipeline.config.arguments": "of command lines, not of stages",
    "pipeline.config.tables": "of docs/parameters.md",
}


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pipeline", "stages")


def imported(module: str) -> set[str]:
    """Everything of the project that an import of `module` may bring, lazily or not, packages on the way included."""
    todo, found = [module], set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += graph().find_modules_directly_imported_by(name)
            todo += [name.rpartition(".")[0]] if "." in name else []
    return {name for name in found if not only_words(name)}


def only_words(module: str) -> bool:
    """Whether a module holds a docstring and nothing else."""
    body = ast.parse(file_of(module).read_text(encoding="utf-8")).body
    return len(body) == 1 and ast.get_docstring(ast.Module(body, [])) is not None


def file_of(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def harmless(module: str, stage: str) -> bool:
    packages = {module, module.rpartition(".")[0]}
    return module in HARMLESS or any(stage in HARMLESS_FOR[name][0] for name in packages & HARMLESS_FOR.keys())


def depended_on(stage: str) -> dict[str, list[str]]:
    """Each of the stage's dependencies that is code -> the modules in it."""
    code = [
        path
        for path in read_yaml(ROOT / "dvc.yaml")["stages"][stage]["deps"]
        if path.startswith(("pipeline/", "stages/"))
    ]
    modules = {}
    for path in code:
        files = sorted((ROOT / path).rglob("*.py")) if (ROOT / path).is_dir() else [ROOT / path]
        names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
        modules[path] = [name for name in names if not only_words(name)]
    return modules


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_that_it_imports_and_on_nothing_else(stage: str) -> None:
    needed = {name for name in imported(f"stages.{stage}") if not harmless(name, stage)}
    given = {name for names in depended_on(stage).values() for name in names}
    assert sorted(needed - given) == [], f"add to the deps of {stage} in dvc.yaml, or give a reason here"
    assert sorted(given - needed - set(IN_VAIN)) == [], f"remove from the deps of {stage} in dvc.yaml"


def test_every_reason_is_needed() -> None:
    imports = {stage: imported(f"stages.{stage}") for stage in STAGES}
    for name in HARMLESS:
        assert any(name in modules for modules in imports.values()), name
    for name, (stages, _) in HARMLESS_FOR.items():
        for stage in stages:
            assert any(f"{module}.".startswith(f"{name}.") for module in imports[stage]), (name, stage)
    given = {name for stage in STAGES for names in depended_on(stage).values() for name in names}
    assert set(IN_VAIN) <= given


#: A file that the stage uses, as few others as possible, and all stages that use it.
CHANGED = {
    "plan": ("pipeline/config/plan.py", {"plan"}),
    "download": ("pipeline/datasets/sources.py", {"download"}),
    "split": ("pipeline/streams/writer.py", {"split"}),
    "train": ("pipeline/training/feeding.py", {"train@naive-1", "train@stable-ewc-1"}),
    "eigenspectrum": ("pipeline/curvature/power.py", {"eigenspectrum@naive-1", "eigenspectrum@stable-ewc-1"}),
    "summarize": ("pipeline/analysis/summary.py", {"summarize"}),
    "figures": ("pipeline/figures/style.py", {"figures"}),
    "all that write": (
        "pipeline/support/files.py",
        {
            "plan", "download", "split", "summarize", "figures", "train@naive-1", "train@stable-ewc-1",
            "eigenspectrum@naive-1", "eigenspectrum@stable-ewc-1",
        },
    ),
}  # fmt: skip


def test_a_change_of_a_file_makes_exactly_the_stages_stale_that_use_it(clone: Clone) -> None:
    for file, stale in CHANGED.values():
        path = clone.folder / file
        text = path.read_text(encoding="utf-8")
        path.write_text(f"{text}\n# a change\n", encoding="utf-8")
        assert set(json.loads(clone.run("dvc", "status", "--json"))) == stale, file
        path.write_text(text, encoding="utf-8")


def test_dvc_reruns_a_stage_whose_code_has_changed_and_none_that_comes_out_the_same(clone: Clone) -> None:
    file = clone.folder / "pipeline/training/feeding.py"
    file.write_text(file.read_text(encoding="utf-8") + "\n# a change\n", encoding="utf-8")
    assert clone.repro() == {"train@naive-1", "train@stable-ewc-1"}
