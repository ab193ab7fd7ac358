"""The numbers that figures draw, and along which axis."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from pipeline.analysis.tables import tables
from pipeline.figures import (
    accuracy_and_forgetting,
    accuracy_matrix,
    accuracy_of_tasks,
    alpha_heat_map,
    average_accuracy,
    cost,
    eigenvalues_of_layers,
    forgetting_and_curvature,
    loss_along_line,
    predicted_forgetting,
    spectral_density,
    stable_plastic,
)
from tests.figures.test_figures import OPTIONS, runs
from tests.paths import ROOT

#: The figures that draw against the bound, the panel, and how many of three tasks' pairs are in it.
BOUNDED = ((predicted_forgetting.draw, 1, 3), (forgetting_and_curvature.draw, 0, 2))


def xy(axes: Axes, number: int = 0) -> Any:
    line = axes.get_lines()[number]
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def panels(figure: Any) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_visible()]


def test_a_curve_is_the_mean_in_percent_and_its_band_one_deviation_of_the_seeds() -> None:
    table = pd.DataFrame({"method": "tag", "seed": [1, 2, 3], "tasks_learnt": 1, "average_accuracy": [0.5, 0.6, 0.7]})
    later = table.assign(tasks_learnt=2, average_accuracy=[0.2, 0.4, 0.6])
    (axes,) = average_accuracy.draw({"average_accuracy": pd.concat([table, later])}, OPTIONS).axes
    assert xy(axes) == ([1, 2], pytest.approx([60, 40]))
    corners = np.asarray(axes.collections[0].get_paths()[0].vertices).round(6).tolist()
    assert set(map(tuple, corners)) == {(1, 50), (1, 70), (2, 20), (2, 60)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tasks learnt", "average accuracy (%)")


def test_bars_are_means_and_dots_the_runs_of_their_metric() -> None:
    made = pd.DataFrame({"method": "tag", "seed": [1, 2], "average_accuracy": [0.5, 0.7], "forgetting": [0.1, 0.2]})
    accuracy, forgetting = accuracy_and_forgetting.draw({"runs": made}, OPTIONS).axes
    for axes, values, label in (
        (accuracy, [50, 70], "average accuracy (%)"), (forgetting, [10, 20], "forgetting (percentage points)"),
    ):  # fmt: skip
        assert axes.patches[0].get_width() == pytest.approx(np.mean(values))  # type: ignore[attr-defined]
        assert (xy(axes)[0], axes.get_xlabel()) == (pytest.approx(values), label)


def test_a_matrix_has_tasks_across_and_tasks_learnt_down() -> None:
    table = pd.DataFrame(
        [("tag", seed, learnt, task, 0.1 * learnt + 0.01 * task + 0.02 * seed)
         for seed in (0, 1) for learnt in range(3) for task in (1, 2)],
        columns=["method", "seed", "tasks_learnt", "task", "accuracy"],
    )  # fmt: skip
    axes, _ = accuracy_matrix.draw({"accuracy": table}, OPTIONS).axes
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.array([[2, 3], [12, 13], [22, 23]]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("task", "tasks learnt")


def test_a_task_is_shown_from_when_it_was_learnt() -> None:
    made = tables(runs(1, 1, 3))
    figure = accuracy_of_tasks.draw(made, OPTIONS)
    assert [xy(axes)[0] for axes in panels(figure)] == [[1, 2, 3], [2, 3], [3]]
    assert len(figure.axes) == 3
    seven = accuracy_of_tasks.draw(tables(runs(1, 1, 7)), OPTIONS)
    assert (len(seven.axes), len(panels(seven))) == (10, 7)  # two rows of five


def test_alpha_has_earlier_tasks_across_and_tasks_down() -> None:
    table = pd.DataFrame(
        [("tag", 1, task, earlier, 10.0 * task + earlier) for task in (1, 2, 3) for earlier in range(1, task + 1)],
        columns=["method", "seed", "task", "earlier_task", "alpha"],
    )
    figure = alpha_heat_map.draw({"alpha": table}, OPTIONS)
    assert figure is not None
    image: Any = np.ma.filled(np.ma.asarray(figure.axes[0].images[0].get_array()), np.nan)
    assert np.array_equal(image, np.array([[21.0, np.nan], [31.0, 32.0]]), equal_nan=True)


def test_an_alpha_that_the_tables_have_as_zero_is_drawn_too() -> None:
    rows = [("tag", 1, 2, 1, 0.0), ("tag", 1, 3, 1, 0.0), ("tag", 1, 3, 2, 0.5)]
    table = pd.DataFrame(rows, columns=["method", "seed", "task", "earlier_task", "alpha"])
    figure = alpha_heat_map.draw({"alpha": table}, OPTIONS)
    assert figure is not None
    figure.canvas.draw()
    assert np.nanmin(np.asarray(figure.axes[0].images[0].get_array())) == pytest.approx(5e-7)


def test_the_look_of_the_figures_is_not_that_of_a_users_matplotlibrc(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(
        "text.usetex: True\nfont.family: serif\nsavefig.bbox: tight\n", encoding="utf-8"
    )
    code = (
        "import matplotlib; from pipeline.figures.style import common_look\n"
        "def told(): print(*(matplotlib.rcParams[key] for key in ('text.usetex', 'font.family', 'font.size', 'backend')))\n"
        "with common_look(): told()\n"
        "told()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"MATPLOTLIBRC": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["False ['sans-serif'] 8.0 Agg", "True ['serif'] 10.0 Agg"]


def test_what_was_lost_is_shown_against_the_movement_of_the_first_task() -> None:
    made = tables(runs(1, 1, 3))
    made["movement"] = made["movement"].assign(forgetting=[0.1, 0.2, 0.9])
    left, right = forgetting_and_curvature.draw(made, OPTIONS).axes  # type: ignore[union-attr]
    assert xy(left) == ([2, 3], pytest.approx([10, 20]))
    assert xy(right) == ([2, 3], pytest.approx([1, 1]))


def test_the_line_is_that_of_the_first_task_to_the_end_with_its_model() -> None:
    table = pd.DataFrame(
        [
            ("tag", 1, task, later, u, 10 * task + later + u, -u)
            for task, later in ((1, 2), (1, 3), (2, 3))
            for u in (0, 1)
        ],
        columns=["method", "seed", "task", "tasks_learnt", "position", "loss", "model"],
    )
    figure = loss_along_line.draw({"line": table}, OPTIONS)
    assert figure is not None
    (axes,) = figure.axes
    assert xy(axes) == ([0, 1], [13, 14])
    assert xy(axes, 1) == ([0, 1], [0, -1])


def test_predictions_are_across_and_rises_up_and_a_repeated_run_is_not_drawn() -> None:
    made = tables(runs(1, 1, 3))
    again = made["prediction"].assign(method="again")
    figure = predicted_forgetting.draw(made | {"prediction": pd.concat([made["prediction"], again])}, OPTIONS)
    assert figure is not None
    for axes, column in zip(figure.axes, ("predicted_rise", "bound"), strict=True):
        dots = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
        assert [line.get_label() for line in dots] == ["naive"]
        assert xy(axes) == (made["prediction"][column].tolist(), made["prediction"]["rise"].tolist())


@pytest.mark.parametrize("unknown", [1, 3])
def test_pairs_without_a_bound_are_counted_below_the_axis(unknown: int) -> None:
    """Three pairs of three tasks, two of them of task 1."""
    made = tables(runs(1, 1, 3))
    fewer = {
        name: made[name].assign(**{column: made[name][column].where(np.arange(3) >= unknown)})
        for name, column in (("prediction", "bound"), ("movement", "lambda_distance_squared"))
    }
    for draw, place, pairs in BOUNDED:
        before, after = draw(made, OPTIONS), draw(made | fewer, OPTIONS)
        assert before is not None
        assert after is not None
        count = min(unknown, pairs)
        told = f"\n(none for {count} of {pairs}: all eigenvalues found are negative)"
        assert after.axes[place].get_xlabel() == before.axes[place].get_xlabel() + told
        assert np.isfinite(xy(after.axes[place])[0]).sum() == pairs - count


def test_a_density_is_the_mean_over_probes_and_has_the_area_1() -> None:
    probes = [{"method": "tag", "seed": 1, "task": 1, "probe": probe, "node": float(node), "weight": 0.5}
              for probe in (1, 2) for node in (0, 10 * probe)]  # fmt: skip
    figure = spectral_density.draw({"density": pd.DataFrame(probes)}, OPTIONS)
    assert figure is not None
    assert np.trapezoid(*xy(figure.axes[0])[::-1]) == pytest.approx(1, abs=0.01)


def test_plastic_is_left_and_stable_right_with_what_was_found_when_tasks_were_learnt() -> None:
    made = tables(runs(2, 1, 2))
    ends = made["eigenvalues"].assign(moment="end", eigenvalue=99.0)
    figure = stable_plastic.draw(made | {"eigenvalues": pd.concat([made["eigenvalues"], ends])}, OPTIONS)
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes[:2]] == [OPTIONS.plastic, OPTIONS.stable]
    assert [xy(axes)[1] for axes in figure.axes[2:4]] == [[9, 10], [10, 11]]


def test_the_size_of_a_layers_eigenvalue_is_drawn() -> None:
    made = tables(runs(1, 1, 2))
    made["layers"] = made["layers"].assign(eigenvalue=-made["layers"]["eigenvalue"])
    figure = eigenvalues_of_layers.draw(made, OPTIONS)
    assert figure is not None
    assert xy(figure.axes[0]) == ([1, 2], [4.0, 2.5])


def test_cost_has_seconds_across_and_accuracy_up() -> None:
    made = pd.DataFrame({"method": "tag", "average_accuracy": [0.5, 0.7], "seconds": [10.0, 30.0]})
    (axes,) = cost.draw(made).axes
    assert [xy(axes, number) for number in (0, 1)] == [
        ([10, 30], pytest.approx([50, 70])), ([20], pytest.approx([60])),
    ]  # fmt: skip
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds of training a run", "average accuracy (%)")
