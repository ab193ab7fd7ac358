"""Figure: the loss of the first task on the straight line from its own weights to those at the end of the stream."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.sections import Figures
from pipeline.figures.style import PAGE, colour, label_panels, line_with_band, new_figure

#: Panels in a row, at most.
COLUMNS = 4
#: Least width in inches, for the label of the common axis.
LEAST = 4.4
#: How far above the largest loss the quadratic model is shown, as a factor.
ABOVE = 1.5


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw a panel for each method: the loss (line and band over the seeds) and the quadratic model of it (dashes).

    Returns:
        The figure; None if no run has predictions.
    """
    table = tables["line"]
    if table.empty:
        return None
    table = table[(table["task"] == 1) & (table["tasks_learnt"] == table["tasks_learnt"].max())]
    methods = list(table["method"].unique())
    columns = min(COLUMNS, len(methods))
    rows = math.ceil(len(methods) / columns)
    width = max(PAGE * columns / COLUMNS, LEAST)
    figure, grid = new_figure(width, 0.4 + 1.5 * rows, rows, columns, sharex=True, sharey=True)
    for method, axes in zip(methods, grid.flat, strict=False):
        of_method = table[table["method"] == method]
        line_with_band(axes, of_method, "position", "loss", "_", color=colour(method), marker=".")
        model = of_method.groupby("position")["model"].mean()
        axes.plot(model.index, model, linestyle="--", linewidth=0.9, color="#333333", label="_")
        axes.set_title(method)
    models = table.groupby(["method", "position"])["model"].mean()
    # The model of one method may leave the axes far behind, which are the losses'.
    highest = table["loss"].max()
    lowest = max(1.1 * models.min(), (1 - ABOVE) * highest)
    grid[0, 0].set_ylim(min(0.0, lowest), min(1.1 * max(models.max(), highest), ABOVE * highest))
    label_panels(grid, len(methods), "", "")
    figure.supxlabel("position between the weights after task 1 (0) and after the last task (1)", fontsize=8)
    figure.supylabel("loss of task 1 (nats)", fontsize=8)
    return figure
