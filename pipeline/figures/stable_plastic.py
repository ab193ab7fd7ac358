"""Figure: stable against plastic, after figure 3 of the Stable SGD paper: accuracy, curvature and distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.sections import Figures
from pipeline.figures.style import (
    PAGE,
    legend_above,
    line_with_band,
    mark_doubtful,
    matrix_name,
    new_figure,
    shades,
    whole_numbers,
)


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw a column for each of the two methods that `options` names, plastic and stable.

    The rows are the accuracy of every task, the largest Hessian eigenvalues of each task's loss right after it was
    learnt, and the distance of the weights from those after task 1.

    Returns:
        The figure; None if one of the two methods was not run or has no eigenvalues.
    """
    pair = (options.plastic, options.stable)
    if not set(pair) <= set(tables["eigenvalues"]["method"]):
        return None
    figure, grid = new_figure(PAGE, 5.6, 3, 2, sharex=True, sharey="row")
    tasks = sorted(tables["accuracy"]["task"].unique())
    for column, method in enumerate(pair):
        top, middle, bottom = grid[:, column]
        accuracy = tables["accuracy"].query("method == @method and tasks_learnt >= task")
        for task, shade in zip(tasks, shades(len(tasks)), strict=True):
            rows = accuracy[accuracy["task"] == task].assign(percent=lambda rows: 100 * rows["accuracy"])
            label = f"task {task}" if column == 0 else "_"
            line_with_band(top, rows, "tasks_learnt", "percent", label, color=shade, marker="o")
        spectrum = tables["eigenvalues"].query("method == @method and moment == 'learnt'")
        ranks = sorted(spectrum["rank"].unique())
        for rank, style in zip(ranks, _styles(len(ranks)), strict=True):
            rows = spectrum[spectrum["rank"] == rank]
            line_with_band(middle, rows, "task", "eigenvalue", f"λ$_{{{rank}}}$", marker=".", **style)
        mark_doubtful(middle, spectrum, "#333333")
        distance = tables["distance"].query("method == @method")
        line_with_band(bottom, distance, "task", "distance", "_", color="#333333", marker=".")
        top.set_title(method)
        bottom.set_xlabel("tasks learnt")
        whole_numbers(bottom)
    grid[0, 0].set_ylabel("accuracy (%)")
    grid[1, 0].set_ylabel(f"{matrix_name(tables['eigenvalues'])} eigenvalues")
    grid[2, 0].set_ylabel("distance from\nweights after task 1")
    grid[1, 0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)
    legend_above(figure, grid[0, 0])
    return figure


def _styles(count: int) -> list[dict[str, Any]]:
    return [{"color": "#333333", "alpha": 1 - 0.7 * rank / max(1, count)} for rank in range(count)]
