"""Figure: TAG's alpha beside the accuracy of the earlier tasks, over the stream: what is weighted, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.sections import Figures
from pipeline.figures.style import (
    PAGE,
    legend_above,
    line_with_band,
    new_figure,
    plain_log_scale,
    shades,
    whole_numbers,
)

#: Lines of earlier tasks in a panel, at most.
MOST = 6
#: Below this ratio of the largest alpha to the smallest, 1, 2 and 5 are too few ticks.
NARROW = 4


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw one row of two panels for each TAG method, in which each earlier task tau is a line, or six of them.

    Left: alpha(t, tau) while task t is learnt. Right: the accuracy on task tau.

    Returns:
        The figure; None if no method runs TAG, or if there is only one task.
    """
    course = tables["alpha_course"]
    course = course[course["earlier_task"] < course["tasks"]]  # without a task's weight on itself, which is constant
    methods = list(course["method"].unique())
    if not methods:
        return None
    tasks = sorted(course["earlier_task"].unique())
    if len(tasks) > MOST:  # evenly spread, with the first and the last
        tasks = [tasks[round(place)] for place in np.linspace(0, len(tasks) - 1, MOST)]
    figure, grid = new_figure(PAGE, 0.5 + 2.0 * len(methods), len(methods), 2, sharex=True, sharey="col")
    for (left, right), method in zip(grid, methods, strict=True):
        accuracy = tables["accuracy"].query("method == @method and tasks_learnt >= task")
        for task, shade in zip(tasks, shades(len(tasks)), strict=True):
            mine = course[(course["method"] == method) & (course["earlier_task"] == task)]
            label = f"task {task}" if method == methods[0] else "_"
            line_with_band(left, mine[mine["tasks"] > task], "tasks", "alpha", label, color=shade)
            rows = accuracy[accuracy["task"] == task].assign(percent=lambda rows: 100 * rows["accuracy"])
            line_with_band(right, rows, "tasks_learnt", "percent", "_", color=shade, marker=".")
        alphas = course["alpha"]
        plain_log_scale(left, subs=(1, 2, 5) if alphas.max() > NARROW * alphas.min() else (1, 1.2, 1.5, 2, 3, 5, 7))
        left.set_ylabel(f"{method}: α(t, τ)")
        right.set_ylabel("accuracy on task τ (%)")
        whole_numbers(left)
    for axes in grid[-1]:
        axes.set_xlabel("tasks learnt")
    legend_above(figure, grid[0, 0])
    return figure
