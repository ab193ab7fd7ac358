"""Figure: the largest eigenvalue of each task's Hessian right after it was learnt, with a line for each method."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.sections import Figures
from pipeline.figures.style import (
    COLUMN,
    colour,
    legend_above,
    line_with_band,
    look,
    mark_doubtful,
    matrix_name,
    new_figure,
    whole_numbers,
    without_repeats,
)


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw the mean over the seeds, with bands of one standard deviation, as in the table `largest_eigenvalue`.

    It is the largest with its sign of those found. A cross marks each one of a single run that did not converge.

    Returns:
        The figure; None if no run has eigenvalues.
    """
    table = tables["eigenvalues"]
    if table.empty:
        return None
    table = table[table["moment"] == "learnt"]
    table = table.loc[table.groupby(["method", "seed", "task"], sort=False)["eigenvalue"].idxmax()]
    named = without_repeats(table, ["seed", "task", "eigenvalue"])
    figure, grid = new_figure(COLUMN, 2.3)
    axes = grid[0, 0]
    for method, label in named.items():
        rows = table[table["method"] == method]
        line_with_band(axes, rows, "task", "eigenvalue", label, **look(method, list(named)))
        mark_doubtful(axes, rows, colour(method))
    axes.set_xlabel("task")
    axes.set_ylabel(f"largest {matrix_name(table)} eigenvalue")
    whole_numbers(axes)
    legend_above(figure, axes)
    return figure
