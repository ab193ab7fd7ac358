"""Figure: average accuracy of the tasks learnt so far, over the stream, with a line for each method."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.schema import Figures
from pipeline.figures.style import COLUMN, colour, legend_above, line_with_band, marker, new_figure, whole_numbers


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure:
    """Draw the mean over the seeds, with bands of one standard deviation."""
    table = tables["average_accuracy"].assign(percent=lambda rows: 100 * rows["average_accuracy"])
    methods = list(table["method"].unique())
    figure, grid = new_figure(COLUMN, 2.3)
    axes = grid[0, 0]
    for method in methods:
        rows = table[table["method"] == method]
        line_with_band(
            axes, rows, "tasks_learnt", "percent", method, color=colour(method), marker=marker(method, methods)
        )
    axes.set_xlabel("tasks learnt")
    axes.set_ylabel("average accuracy (%)")
    whole_numbers(axes)
    legend_above(figure, axes)
    return figure
