"""Figure: the largest Hessian eigenvalue of each task's loss right after it was learnt, with a line for each method."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.schema import Figures
from pipeline.figures.style import (
    COLUMN,
    colour,
    legend_above,
    line_with_band,
    mark_doubtful,
    marker,
    new_figure,
    whole_numbers,
)


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw the mean over the seeds, with bands of one standard deviation.

    A cross marks each eigenvalue of a single run that did not converge.

    Returns:
        The figure; None if no run has eigenvalues.
    """
    table = tables["eigenvalues"]
    if table.empty:
        return None
    table = table[(table["rank"] == 1) & (table["moment"] == "learnt")]
    methods = list(table["method"].unique())
    figure, grid = new_figure(COLUMN, 2.3)
    axes = grid[0, 0]
    for method in methods:
        rows = table[table["method"] == method]
        line_with_band(axes, rows, "task", "eigenvalue", method, color=colour(method), marker=marker(method, methods))
        mark_doubtful(axes, rows, colour(method))
    axes.set_xlabel("task")
    axes.set_ylabel("largest Hessian eigenvalue")
    whole_numbers(axes)
    legend_above(figure, axes)
    return figure
