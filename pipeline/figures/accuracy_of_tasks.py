"""Figure: accuracy of each task over the stream, with a panel for each task and a line for each method."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.sections import Figures
from pipeline.figures.style import (
    CROWDED,
    PAGE,
    family,
    label_panels,
    legend_above,
    line_with_band,
    look,
    new_figure,
    whole_numbers,
)

#: Panels in a row, at most.
COLUMNS = 5


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure:
    """Draw each task from when it was learnt to the end of the stream: mean and standard deviation over the seeds.

    Of many methods, variants of others are left out, which the accuracy matrices show.
    """
    table = tables["accuracy"].assign(percent=lambda rows: 100 * rows["accuracy"])
    methods = list(table["method"].unique())
    if len(methods) >= CROWDED:
        methods = [method for method in methods if family(method) not in set(methods) - {method}]
    tasks = sorted(table["task"].unique())
    columns = min(COLUMNS, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure, grid = new_figure(PAGE * columns / COLUMNS, 0.4 + 1.5 * rows, rows, columns, sharex=True, sharey=True)
    for task, axes in zip(tasks, grid.flat, strict=False):
        of_task = table[(table["task"] == task) & (table["tasks_learnt"] >= task)]
        for method in methods:
            line_with_band(
                axes,
                of_task[of_task["method"] == method],
                "tasks_learnt",
                "percent",
                method if task == tasks[0] else "_",
                **look(method, methods),
                markersize=2.2,
                linewidth=0.8,
            )
        axes.set_title(f"task {task}")
        whole_numbers(axes, most=5)
    label_panels(grid, len(tasks), "tasks learnt", "accuracy (%)")
    legend_above(figure, grid[0, 0])
    return figure
