"""Figure: the accuracy matrix of each method as a heat map, by tasks learnt (rows) and task (columns)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.config.sections import Figures
from pipeline.figures.style import PAGE, label_panels, new_figure

#: Panels in a row, at most.
COLUMNS = 4
#: Up to this number of tasks, each cell shows its number.
NUMBERED = 6


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure:
    """Draw one panel for each method: the mean over the seeds, in percent. Row 0 is the untrained network."""
    table = tables["accuracy"]
    methods = list(table["method"].unique())
    tasks = int(table["task"].max())
    columns = min(COLUMNS, len(methods))
    rows = -(-len(methods) // columns)
    side = (PAGE - 1.0) / COLUMNS
    figure, grid = new_figure(
        side * columns + 1.0, (side * (tasks + 1) / max(tasks, 2) + 0.25) * rows + 0.3, rows, columns,
        sharex=True, sharey=True,
    )  # fmt: skip
    image = None
    for axes, method in zip(grid.flat, methods, strict=False):
        means = 100 * table[table["method"] == method].groupby(["tasks_learnt", "task"])["accuracy"].mean()
        matrix = means.unstack("task").reindex(index=range(tasks + 1), columns=range(1, tasks + 1)).to_numpy()
        extent = (0.5, tasks + 0.5, tasks + 0.5, -0.5)
        image = axes.imshow(matrix, extent=extent, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        if tasks <= NUMBERED:
            for (learnt, task), value in np.ndenumerate(matrix):
                if np.isfinite(value):
                    ink = "w" if value < 45 else "k"
                    axes.text(task + 1, learnt, f"{value:.0f}", ha="center", va="center", fontsize=6, color=ink)
        axes.set_title(method)
        axes.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(min(tasks, 6), integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(min(tasks + 1, 6), integer=True, min_n_ticks=1))
    label_panels(grid, len(methods), "task", "tasks learnt")
    if image is not None:
        figure.colorbar(image, ax=grid, shrink=0.6 if rows > 1 else 0.9).set_label("accuracy (%)")
    return figure
