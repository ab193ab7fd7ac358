from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.analysis.intervals import Estimate
from pipeline.analysis.published import compare, published_row, read_published
from pipeline.config import Configuration, RunPlan, resolve_run
from pipeline.support.errors import UserError
from tests.configuration import project
from tests.conftest import ROOT

TABLE = read_published(ROOT / "published.csv")
PROJECT = project()
BENCHMARKS = ("split-cifar100", "split-miniimagenet", "split-cub", "5-datasets")
ROWS = {
    "naive": "Naive SGD", "stable": "Stable SGD", "rmsprop": "Naive RMSProp", "adagrad": "Naive Adagrad",
    "adam": "Naive Adam", "tag": "TAG-RMSProp", "tag-adagrad": "TAG-Adagrad", "tag-adam": "TAG-Adam", "ewc": "EWC",
    "agem": "A-GEM", "agem-10": "A-GEM", "er": "ER", "er-5": "ER", "multitask-passes": "Multi-task",
    "rmsprop-ewc": "RMSProp EWC", "rmsprop-agem": "RMSProp A-GEM", "rmsprop-er": "RMSProp ER", "tag-ewc": "TAG-EWC",
    "tag-agem": "TAG-A-GEM", "tag-er": "TAG-ER",
}  # fmt: skip


def plan(benchmark: str, method: str) -> RunPlan:
    params = PROJECT.params.model_copy(update={"benchmark": benchmark})
    return resolve_run(Configuration(params, PROJECT.benchmarks, PROJECT.methods), method)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_the_presets_hold_the_published_settings_of_every_row(benchmark: str) -> None:
    for method, name in ROWS.items():
        found = published_row(TABLE, benchmark, plan(benchmark, method))
        assert found is not None, method
        assert found.row == name, method
        # Two quirks of TAG's code, and the passes of one row, are settings of experiments, and of no method.
        quirk = {"EWC": ("fisher batch, not published",), "A-GEM": ("extra_forward null, not true",)}
        if benchmark == "split-miniimagenet":
            quirk["Multi-task"] = ("passes 6, not 5",)
        wanted = [told for end, told in quirk.items() if name.endswith(end)]
        assert found.differs == (wanted[0] if wanted else ()), method
        assert found.accuracy.n >= 2


def test_a_row_is_found_by_its_memory() -> None:
    means = []
    for method in ("er", "er-5", "er-10"):
        found = published_row(TABLE, "split-cifar100", plan("split-cifar100", method))
        assert found is not None
        means.append(found.accuracy.mean)
    assert means == [59.144, 65.744, 68.938]


@pytest.mark.parametrize("method", ["multitask", "stable-er", "stable-ewc", "er-ring", "er-reservoir", "agem-256"])
def test_what_was_not_published_has_no_row(method: str) -> None:
    assert published_row(TABLE, "split-cifar100", plan("split-cifar100", method)) is None


def test_another_benchmark_or_another_number_of_epochs_has_no_row() -> None:
    naive = plan("split-cifar100", "naive")
    assert published_row(TABLE, "rotated-digits", naive) is None

    def longer(epochs: int) -> RunPlan:
        return naive.model_copy(update={"training": naive.training.model_copy(update={"epochs": epochs})})

    assert published_row(TABLE, "split-cifar100", longer(7)) is None
    five = published_row(TABLE, "split-cifar100", longer(5))
    assert five is not None and five.accuracy.mean == 52.256


def test_settings_that_differ_are_told() -> None:
    naive = plan("split-cifar100", "naive")
    other = naive.model_copy(update={"optimizer": naive.optimizer.model_copy(update={"lr": 0.2})})
    found = published_row(TABLE, "split-cifar100", other)
    assert found is not None
    assert found.differs == ("lr 0.2, not 0.1",)


@pytest.mark.parametrize(
    ("method", "part", "key", "value"),
    [
        ("naive", "training", "batch_size", 20), ("stable", "regime", "dropout", 0.5), ("stable", "regime", "lr_decay", 0.5),
        ("tag", "optimizer", "b", 9.0), ("ewc", "strategy", "ewc_lambda", 1.5),
    ],
)  # fmt: skip
def test_every_setting_that_differs_is_told(method: str, part: str, key: str, value: float) -> None:
    own = plan("split-cifar100", method)
    changed = own.model_copy(update={part: getattr(own, part).model_copy(update={key: value})})
    found = published_row(TABLE, "split-cifar100", changed)
    assert found is not None
    assert any(told.startswith(f"{key} {value:g}, not ") for told in found.differs)


def test_momentum_without_decay_and_two_rows_that_fit_have_no_row() -> None:
    naive = plan("split-cifar100", "naive")
    moving = naive.model_copy(update={"optimizer": naive.optimizer.model_copy(update={"momentum": 0.8})})
    assert published_row(TABLE, "split-cifar100", moving) is None
    assert published_row(pd.concat([TABLE, TABLE]), "split-cifar100", naive) is None


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: missing; restore it"):
        read_published(tmp_path / "none.csv")


def test_means_and_deviations_are_those_of_the_runs() -> None:
    told = TABLE[TABLE["acc_runs"].notna()]
    assert len(told) > 118
    for _, row in told.iterrows():
        # Percent with two digits and fractions with four, as the logs have them; their deviations have the divisor n.
        for name, digits in (("acc", 2e-3), ("forgetting", 1e-4), ("la", 2e-3)):
            values = pd.Series([float(word) for word in str(row[f"{name}_runs"]).split() if word != "-"])
            assert len(values) == row["runs"]
            assert values.mean() == pytest.approx(row[f"{name}_mean"], abs=digits)
            assert values.std(ddof=0) == pytest.approx(row[f"{name}_std"], abs=digits)


def test_the_runs_of_a_row_come_with_it_where_they_were_published() -> None:
    found = published_row(TABLE, "split-cifar100", plan("split-cifar100", "tag"))
    assert found is not None
    assert found.by_run == {1: 62.65, 2: 62.4, 3: 62.95, 4: 62.69, 5: 63.24}
    partly = published_row(TABLE, "split-cifar100", plan("split-cifar100", "tag-ewc"))
    assert partly is not None
    assert (partly.accuracy.n, partly.by_run) == (3, {3: 63.74, 4: 64.87, 5: 63.32})
    only_mean = published_row(TABLE, "split-cifar100", plan("split-cifar100", "multitask-passes"))
    assert only_mean is not None
    assert only_mean.by_run == {}


def test_a_row_without_a_deviation_keeps_its_number_of_runs() -> None:
    found = published_row(TABLE.assign(acc_std=np.nan), "split-cifar100", plan("split-cifar100", "naive"))
    assert found is not None
    assert found.accuracy == Estimate(5, 51.358)


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ("62.65 6x 1 1 1", "acc_runs: could not convert string to float: '6x'"),
        ("62.65 1", "5 runs, but acc_runs has 2"),
    ],
)
def test_damaged_runs_are_told(runs: str, told: str) -> None:
    damaged = TABLE.assign(acc_runs=runs)
    with pytest.raises(UserError, match=rf"^published\.csv: row 'TAG-RMSProp' of split-cifar100: {told}"):
        published_row(damaged, "split-cifar100", plan("split-cifar100", "tag"))


def test_ours_are_kept_by_seed() -> None:
    runs = pd.DataFrame({"method": ["tag", "er", "tag"], "seed": [4, 4, 2], "average_accuracy": [0.62, 0.5, 0.64]})
    (found,) = compare(runs, {"tag": plan("split-cifar100", "tag")}, "split-cifar100", TABLE)
    assert found.by_seed == {4: 62.0, 2: 64.0}
    assert (found.ours.n, found.ours.mean) == (2, 63.0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("fisher", "settings: must be key=value with spaces between, is 'fisher'"),
        ("fishr=published", "settings: neither ewc nor sgd has 'fishr'"),
    ],
)
def test_damaged_settings_are_named(settings: str, told: str) -> None:
    damaged = TABLE.copy()
    damaged.loc[damaged["row"] == "EWC", "settings"] = settings
    with pytest.raises(UserError, match=rf"row 'EWC' of split-cifar100: {told}; restore the file"):
        published_row(damaged, "split-cifar100", plan("split-cifar100", "ewc"))


def test_the_momentum_of_a_row_is_told_where_it_differs() -> None:
    stable = plan("split-miniimagenet", "stable")
    with_momentum = stable.model_copy(update={"optimizer": stable.optimizer.model_copy(update={"momentum": 0.8})})
    found = published_row(TABLE, "split-miniimagenet", with_momentum)
    assert found is not None
    assert found.differs == ("momentum 0.8, not 0",)


def test_a_setting_is_the_same_however_it_is_written_and_told_where_it_differs() -> None:
    def differs(**settings: object) -> tuple[str, ...]:
        own = plan("split-cifar100-chaudhry", "si")
        changed = own.model_copy(update={"strategy": own.strategy.model_copy(update=settings)})
        found = published_row(table, "split-cifar100-chaudhry", changed)
        assert found is not None and found.forgetting_metric == "forgetting"
        return found.differs

    table = TABLE.copy()
    table.loc[table["row"] == "SI", "settings"] = "si_c=1e-1 damping=1e-3"
    assert differs() == ()
    assert differs(si_c=2.0) == ("si_c 2.0, not 1e-1",)
