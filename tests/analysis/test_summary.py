from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.analysis.metrics import all_metrics
from pipeline.analysis.runs import RunMetrics, read_runs
from pipeline.analysis.summary import summarize, summary_table
from pipeline.analysis.tables import TABLES, tables
from pipeline.handover.plots import PLOTS
from pipeline.handover.tables import read_table
from pipeline.support.errors import UserError
from pipeline.support.files import write_json


def run(method: str, seed: int, last: float, eigenvalue: float = 2.0) -> RunMetrics:
    train: dict[str, Any] = {
        "average_accuracy": last,
        "forgetting": 0.9 - last,
        "accuracy": [[0.1, 0.1], [0.9, 0.2], [last, last]],
        "test_loss": [[2.3, 2.3], [0.4, 2.0], [1.4, 0.3]],
        "train_loss": [[2.0, 1.0], [1.5, 0.5]],
    }
    spectra: list[dict[str, Any]] = [
        {
            "task": task,
            "eigenvalues": [-9.0, eigenvalue],
            "relative_residuals": [0.0, 0.1],
            "converged": [True, False],
            "products": 9,
            "examples": 4,
            "parameters": 5,
        }
        for task in (1, 2)
    ]
    spectra[0]["movement"] = [{"task": 2, "distance": 1.5, "overlap": last / 10, "lambda_distance_squared": 4.5}]
    spectra[0]["density"] = {"nodes": [[-1.0, 2.0], [0.0, 1.0]], "weights": [[0.25, 0.75], [0.5, 0.5]]}
    spectrum = {"tasks": spectra, "distance_from_task_1": [0.0, 1.5], "end_of_stream": spectra}
    told = {"dtype": "float32", "images": "test", "seed": 0, "solver": "power"}
    return RunMetrics(method, seed, train, spectrum | told)


def written(found: RunMetrics) -> dict[str, Any]:
    """The metrics of a run as its training writes them: all of them."""
    return {**found.train, **{name: round(value, 6) for name, value in all_metrics(found.train["accuracy"]).items()}}


RUNS = [run("naive", 1, 0.5), run("naive", 2, 0.7, 4.0), run("tag", 1, 0.8)]


def test_the_summary_holds_mean_and_sample_standard_deviation() -> None:
    summary = summarize(tables(RUNS)["runs"])
    assert summary["naive"] == {
        "average_accuracy": 0.6,
        "average_accuracy_std": 0.141421,
        "forgetting": pytest.approx(0.3),
        "forgetting_std": 0.141421,
        "largest_eigenvalue": 3.0,
        "largest_eigenvalue_std": 1.414214,
        "movement_overlap": 0.06,
        "movement_overlap_std": 0.014142,
    }


def test_one_seed_has_no_standard_deviation() -> None:
    assert set(summarize(tables(RUNS)["runs"])["tag"]) == {
        "average_accuracy", "forgetting", "largest_eigenvalue", "movement_overlap",
    }  # fmt: skip


def test_a_metric_that_one_of_two_seeds_has_is_its_mean_without_a_deviation() -> None:
    """As where the eigenspectrum of a run is missing, or a run is older than a metric."""
    without = RunMetrics("naive", 2, {**run("naive", 2, 0.7).train, "worst_case_accuracy": 0.25}, None)
    summary = summarize(tables([RUNS[0], without])["runs"])["naive"]
    assert summary["average_accuracy_std"] == 0.141421
    assert (summary["largest_eigenvalue"], summary["worst_case_accuracy"]) == (2.0, 0.25)
    assert not {"largest_eigenvalue_std", "worst_case_accuracy_std"} & set(summary)


def test_the_largest_eigenvalue_is_signed() -> None:
    assert summarize(tables([run("tag", 1, 0.8, 0.5)])["runs"])["tag"]["largest_eigenvalue"] == 0.5


def test_the_tables_hold_every_number_of_every_run() -> None:
    made = tables(RUNS)
    assert len(made["runs"]) == 3
    assert len(made["accuracy"]) == 3 * 3 * 2
    course = made["average_accuracy"].query("method == 'naive' and seed == 1")
    assert course["average_accuracy"].tolist() == [0.9, 0.5]
    assert made["train_loss"].query("method == 'tag'")["tasks"].tolist() == [0.5, 1.0, 1.5, 2.0]
    assert made["eigenvalues"].query("method == 'tag' and task == 1")["converged"].tolist() == [True, False] * 2
    assert made["eigenvalues"].query("method == 'tag'")["moment"].tolist() == ["learnt"] * 4 + ["end"] * 4
    (moved,) = made["movement"].query("method == 'tag'").to_dict("records")
    assert (moved["task"], moved["tasks_learnt"]) == (1, 2)
    assert (moved["forgetting"], moved["loss_rise"]) == (pytest.approx(0.1), 1.0)
    assert (moved["distance"], moved["overlap"], moved["lambda_distance_squared"]) == (1.5, 0.08, 4.5)
    assert made["density"].query("method == 'tag' and probe == 1")["weight"].tolist() == [0.25, 0.75]
    assert made["distance"].query("method == 'tag'")["distance"].tolist() == [0.0, 1.5]


def test_a_pair_without_a_bound_has_an_empty_cell(tmp_path: Path) -> None:
    """Even where no pair has one, so that those who read the tables find the column."""
    unknown = run("naive", 1, 0.5)
    assert unknown.eigenspectrum is not None
    (moved,) = unknown.eigenspectrum["tasks"][0]["movement"]
    del moved["lambda_distance_squared"]
    moved |= {"gradient_term": 0.0, "quadratic_term": 0.5, "line_loss": [0.4, 1.4], "line_accuracy": [0.9, 0.5]}
    made = tables([unknown])
    for name, column in (("movement", "lambda_distance_squared"), ("prediction", "bound")):
        made[name].to_csv(tmp_path / f"{name}.csv", index=False)
        back = read_table(tmp_path / f"{name}.csv", PLOTS[name], "fix it")
        assert back[column].isna().tolist() == [True]


def test_the_csv_has_a_row_a_method() -> None:
    table = summary_table(summarize(tables(RUNS)["runs"]), "rotated-digits", tables(RUNS)["runs"])
    assert table["method"].tolist() == ["naive", "tag"]
    assert table["seeds"].tolist() == [2, 1]
    assert pd.isna(table["forgetting_std"][1])


def test_only_configured_runs_are_read_and_missing_ones_are_told(tmp_path: Path) -> None:
    for method in ("naive", "removed"):
        write_json(tmp_path / method / "1.json", written(RUNS[0]))
        write_json(tmp_path / method / "1.eigenspectrum.json", dict(RUNS[0].eigenspectrum or {}))
    write_json(tmp_path / "tag" / "1.json", written(RUNS[2]))
    runs, missing = read_runs(tmp_path, ["naive", "tag"], [1, 2])
    assert [(found.method, found.seed) for found in runs] == [("naive", 1), ("tag", 1)]
    assert missing == [
        ("naive", 2, "train"),
        ("naive", 2, "eigenspectrum"),
        ("tag", 1, "eigenspectrum"),
        ("tag", 2, "train"),
        ("tag", 2, "eigenspectrum"),
    ]
    made = tables(runs)
    assert made["runs"]["largest_eigenvalue"].isna().tolist() == [False, True]
    assert "largest_eigenvalue" not in summarize(made["runs"])["tag"]
    assert summary_table(summarize(made["runs"]), "digits", made["runs"])["largest_eigenvalue"].isna()[1]


def test_no_run_at_all_is_a_mistake_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run is there; run 'dvc repro'"):
        read_runs(tmp_path, ["naive"], [1])
    (tmp_path / "naive").mkdir()
    (tmp_path / "naive" / "1.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"naive/1\.json: damaged .*run 'dvc repro train@naive-1'"):
        read_runs(tmp_path, ["naive"], [1])


def test_an_eigenspectrum_of_another_number_of_tasks_than_its_training_is_refused(tmp_path: Path) -> None:
    held = dict(RUNS[0].eigenspectrum or {})
    of_one = {name: value for name, value in held["tasks"][0].items() if name != "movement"}
    del held["end_of_stream"]
    write_json(tmp_path / "naive/1.json", written(RUNS[0]))
    write_json(tmp_path / "naive/1.eigenspectrum.json", held | {"tasks": [of_one], "distance_from_task_1": [0.0]})
    with pytest.raises(UserError, match=r"has 1 tasks, the training has 2; run 'dvc repro eigenspectrum@naive-1'"):
        read_runs(tmp_path, ["naive"], [1])


def predicted() -> RunMetrics:
    """A run with a prediction, moments, blocks and alphas, whose numbers are easy to follow."""
    found = run("tag", 1, 0.8)
    assert found.eigenspectrum
    first = found.eigenspectrum["tasks"][0]
    first["movement"][0] |= {
        "gradient_term": -0.25, "quadratic_term": 0.5,
        "line_loss": [0.5, 0.9, 0.75], "line_accuracy": [0.9, 0.6, 0.7],
    }  # fmt: skip
    first["density_moments"] = {"trace": 3.0, "frobenius": 2.0, "products": 7}
    first["moments"] = {"trace": 4.0, "frobenius": 5.0, "products": 8, "trace_error": 0.5, "frobenius_error": 0.25}
    first["blocks"] = [
        {key: 10 * number + place for place, key in enumerate(TABLES["layers"][3:])} | {"layer": name}
        for number, name in enumerate(("body", "head"), start=1)
    ]
    alphas = {"alpha": [[[1.0]], [[0.5, 0.25], [1.5, 0.75]]]}
    return RunMetrics(found.method, found.seed, {**found.train, **alphas}, found.eigenspectrum)


def test_a_prediction_is_the_sum_of_its_terms_beside_what_came() -> None:
    made = tables([predicted()])
    (pair,) = made["prediction"].to_dict("records")
    assert pair == {
        "method": "tag", "seed": 1, "task": 1, "tasks_learnt": 2, "gradient_term": -0.25, "quadratic_term": 0.5,
        "predicted_rise": 0.25, "bound": 2.25, "rise": 0.25, "barrier": pytest.approx(0.9 - 0.625),
    }  # fmt: skip
    line = made["line"]
    assert line["position"].tolist() == [0, 0.5, 1]
    assert line["model"].tolist() == [0.5, 0.5 - 0.125 + 0.125, 0.75]
    assert line["loss"].tolist() == [0.5, 0.9, 0.75]
    assert line["accuracy"].tolist() == [0.9, 0.6, 0.7]


def test_moments_and_layers_keep_their_names() -> None:
    made = tables([predicted()])
    moments = made["moments"].set_index("estimate")
    assert moments["trace"].to_dict() == {"density": 3.0, "signs": 4.0}
    assert moments["frobenius"].to_dict() == {"density": 2.0, "signs": 5.0}
    assert moments["trace_error"].dropna().to_dict() == {"signs": 0.5}
    layers = made["layers"]
    assert layers["name"].tolist() == ["body", "head"]
    assert layers["layer"].tolist() == [1, 2]
    assert layers[list(TABLES["layers"][3:])].to_numpy().tolist() == [
        [10 * number + place for place in range(len(TABLES["layers"]) - 3)] for number in (1, 2)
    ]


def test_alphas_are_told_for_each_pair_of_tasks() -> None:
    made = tables([predicted()])
    assert made["alpha"][["task", "earlier_task", "alpha"]].to_numpy().tolist() == [[1, 1, 1], [2, 1, 1], [2, 2, 0.5]]
    course = made["alpha_course"].query("tasks > 1")
    assert course[["tasks", "earlier_task", "alpha"]].to_numpy().tolist() == [
        [1.5, 1, 0.5], [1.5, 2, 0.25], [2, 1, 1.5], [2, 2, 0.75],
    ]  # fmt: skip
