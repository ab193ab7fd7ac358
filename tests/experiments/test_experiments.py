"""experiments.yaml against the published tables, and its mistakes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.analysis.published import published_row, read_published
from pipeline.config import Configuration, read_configuration
from pipeline.experiments.experiments import Experiment, configured, plans, read_experiments
from pipeline.experiments.records import Key, read_record
from pipeline.experiments.report import published_rows
from pipeline.experiments.workspace import _dumped
from pipeline.support.errors import UserError
from tests.configuration import project
from tests.paths import ROOT, edit

EXPERIMENTS = read_experiments(ROOT)
BASE = project()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_resolves(name: str) -> None:
    experiment = EXPERIMENTS[name]
    data, methods = plans(configured(BASE, name, experiment))
    assert list(methods) == experiment.methods
    assert data.evaluation == "test"
    assert all(plan.training.epochs == experiment.epochs for plan in methods.values() if experiment.epochs)
    assert experiment.runs[: len(methods)] == [(method, 1) for method in methods]


DESCRIBED = "tag-split-cifar100-as-described"
MOMENTUM = "tag-split-miniimagenet-momentum"


@pytest.mark.parametrize(
    "name", [name for name, entry in EXPERIMENTS.items() if entry.paper == "TAG" and entry.as_published]
)
def test_the_experiments_of_tag_are_its_published_rows_with_their_settings(name: str) -> None:
    table = read_published(ROOT / "published.csv")
    benchmark, epochs = EXPERIMENTS[name].benchmark, EXPERIMENTS[name].epochs or 1
    _, methods = plans(configured(BASE, name, EXPERIMENTS[name]))
    found = [published_row(table, benchmark, plan) for plan in methods.values()]
    assert [row.differs for row in found if row is not None] == [()] * len(methods)
    assert (
        len({(row.row, row.accuracy.mean) for row in found if row is not None})
        == ((table["benchmark"] == benchmark) & (table["epochs"] == epochs)).sum()
    )


def test_every_published_row_is_one_method_of_one_experiment() -> None:
    table = read_published(ROOT / "published.csv")
    met = []
    for name, experiment in EXPERIMENTS.items():
        if experiment.as_published:
            rows = published_rows(experiment)
            found = [
                published_row(rows, experiment.benchmark, plan)
                for plan in plans(configured(BASE, name, experiment))[1].values()
            ]
            met += [(experiment.benchmark, experiment.epochs or 1, row.row, row.accuracy) for row in found if row]
    for row in table.itertuples():
        same = [entry for entry in met if entry[:3] == (row.benchmark, row.epochs, row.row)]
        assert sum(accuracy.mean == row.acc_mean for *_, accuracy in same) == 1, row
    assert len(met) == len(table)


def test_what_runs_other_settings_on_purpose_says_so() -> None:
    assert [name for name, experiment in EXPERIMENTS.items() if not experiment.as_published] == [
        DESCRIBED,
        MOMENTUM,
    ]


def test_the_quirks_of_tags_code_are_in_its_experiments_alone() -> None:
    _, described = plans(configured(BASE, DESCRIBED, EXPERIMENTS[DESCRIBED]))
    for name, experiment in EXPERIMENTS.items():
        scripted = experiment.paper == "TAG" and name != DESCRIBED
        for plan in plans(configured(BASE, name, experiment))[1].values():
            assert plan.strategy.value_of("extra_forward") == (
                True if scripted and plan.strategy.name == "agem" else None
            )
            if plan.strategy.name == "ewc":
                assert plan.strategy.value_of("fisher") == ("published" if scripted else "batch")
            if name == "tag-split-cifar100" and plan.method in described:
                quirks: dict[str, dict[str, Any]] = {
                    "agem": {"extra_forward": None}, "ewc": {"fisher": "batch"}, "multitask-passes": {"passes": 5},
                }  # fmt: skip
                strategy = plan.strategy.model_copy(update=quirks.get(plan.strategy.name, {}))
                assert plan.model_copy(update={"strategy": strategy}) == described[plan.method]


def test_stable_sgd_has_the_momentum_of_the_code_that_made_its_row() -> None:
    """Dropped before the logs named the optimizer, as they do for all rows but those of Split CIFAR-100."""
    found = {
        name: stable.optimizer.value_of("momentum")
        for name, experiment in EXPERIMENTS.items()
        if experiment.paper == "TAG" and (stable := plans(configured(BASE, name, experiment))[1].get("stable"))
    }
    assert {name for name, momentum in found.items() if momentum == 0.8} == {
        "tag-split-cifar100", "tag-split-cifar100-5-epochs", MOMENTUM,
    }  # fmt: skip
    assert set(found.values()) == {0.8, 0.0}
    assert len(found) == 9


def test_stable_sgd_is_not_held_against_the_rows_of_tag() -> None:
    assert published_rows(EXPERIMENTS["stable-sgd-2-cifar100"]).empty
    assert not published_rows(EXPERIMENTS["tag-split-cifar100"]).empty


def test_what_a_person_sets_in_params_does_not_change_the_papers_rows() -> None:
    optimizer = BASE.params.optimizer.model_copy(update={"name": "adam", "lr": 0.5, "b": 1.0})
    other = type(BASE)(BASE.params.model_copy(update={"optimizer": optimizer}), BASE.benchmarks, BASE.methods)
    for name, experiment in EXPERIMENTS.items():
        assert plans(configured(other, name, experiment)) == plans(configured(BASE, name, experiment))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "benchmark: split-cub",
            "benchmark: split-cup",
            "benchmarks.yaml has no 'split-cup'; did you mean 'split-cub'",
        ),
        (
            "[stable, plastic, stable-dropout-at-test, stable-as-scripted]",
            "[stabel]",
            "methods.yaml has no 'stabel'; did you mean 'stable'",
        ),
        ("reference: tag", "reference: tga", "reference: 'tga' is not in its tables; did you mean 'tag'"),
        ("epochs: 5", "epoch: 5", "epoch: unknown key"),
        ("lr_decay: 0.65", "lr_decay: 1.65", "lr_decay"),
        ("paper: TAG", "paper: GAT", "paper"),
        ("as_published: false", "as_published: 0", "as_published"),
        ('missing: "time: the images are at hand"', 'missing: " "', "missing"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    for name in ("params.yaml", "benchmarks.yaml", "methods.yaml", "experiments.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    edit(tmp_path / "experiments.yaml", old, new)
    with pytest.raises(UserError, match=r"^experiments\.yaml: ") as error:
        read_experiments(tmp_path)
    assert told in str(error.value)


def test_every_record_counts_also_those_made_before_a_setting_existed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    counted = 0
    for name, experiment in EXPERIMENTS.items():
        configuration = configured(BASE, name, experiment)
        data, methods = plans(configuration)
        settings = configuration.params.eigenspectrum if experiment.eigenspectrum else None
        for path in sorted((ROOT / "results" / name / "runs").glob("*.json")):
            method, _, seed = path.stem.rpartition("-")
            assert read_record(name, method, int(seed), Key.of(methods[method], data, settings)), path
            counted += 1
    assert counted >= 150


def test_what_is_computed_beside_the_eigenvalues_is_no_part_of_their_key() -> None:
    experiment = EXPERIMENTS["stable-sgd-1-rotated"]
    configuration = configured(BASE, "stable-sgd-1-rotated", experiment)
    data, methods = plans(configuration)
    settings = configuration.params.eigenspectrum

    def key(**changes: object) -> str:
        return Key.of(methods["stable"], data, settings.model_copy(update=changes)).eigenspectrum

    assert key(prediction=False) == key(prediction=True, trace_probes=5, blocks=True) == key()
    assert len({key(), key(matrix="fisher"), key(matrix="gauss-newton"), key(k=4)}) == 4


def test_experiments_run_as_fast_as_they_can_and_beside_the_eigenvalues_compute_what_a_person_asks_for() -> None:
    spectra = BASE.params.eigenspectrum.model_copy(update={"blocks": True, "trace_probes": 7, "k": 9})
    asked = Configuration(BASE.params.model_copy(update={"eigenspectrum": spectra}), BASE.benchmarks, BASE.methods)
    name = "stable-sgd-1-rotated"
    found = configured(asked, name, EXPERIMENTS[name]).params
    assert (found.eigenspectrum.blocks, found.eigenspectrum.trace_probes) == (True, 7)
    wanted = EXPERIMENTS[name].eigenspectrum
    assert wanted is not None and found.eigenspectrum.k == wanted.k
    assert found.compute.portable is False


def test_a_null_that_is_written_counts_in_an_experiment_and_in_its_clone(tmp_path: Path) -> None:
    """Where a benchmark has another value, and the experiment sets a third thing of that method."""
    for name in ("params.yaml", "benchmarks.yaml", "methods.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    edit(
        tmp_path / "benchmarks.yaml",
        "    sgd+agem:\n      lr: 0.2\n",
        "    sgd+agem:\n      lr: 0.2\n      memory_batch: 64\n",
    )
    edit(tmp_path / "methods.yaml", "\nagem:\n", "\nagem:\n  memory_batch: null\n")
    experiment = Experiment.model_validate(
        {
            "paper": "TAG",
            "description": "of one method",
            "benchmark": "rotated-digits",
            "set": {"agem": {"lr": 0.3}},
            "tables": [{"title": "all", "seeds": [1], "methods": ["agem", "agem-2"]}],
        }
    )
    made = configured(read_configuration(tmp_path), "mine", experiment)
    data, methods = plans(made)
    assert [plan.strategy.value_of("memory_batch") for plan in methods.values()] == [None, 64]
    written = {
        "params": made.params.model_dump(),
        "benchmarks": _dumped(made.benchmarks),
        "methods": _dumped(made.methods),
    }
    for file, value in written.items():
        with (tmp_path / f"{file}.yaml").open("w", encoding="utf-8") as out:
            YAML().dump(value, out)
    assert plans(read_configuration(tmp_path)) == (data, methods)
