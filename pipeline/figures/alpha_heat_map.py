"""Figure: TAG's alpha(t, tau), the weight of the second moment of each earlier task tau while task t is learnt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.config.sections import Figures
from pipeline.figures.style import PAGE, label_panels, new_figure

#: Panels in a row, at most.
COLUMNS = 4
#: In inches: the width of the colour bar; the smallest width of a cell that has room for its number.
BAR, CELL = 0.9, 0.3


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw one panel for each TAG method: the mean of alpha over tensors, steps and seeds.

    Where alpha is large, the task's direction opposes that of the earlier task, and the step is held back.

    Returns:
        The figure; None if no method runs TAG, or if there is only one task.
    """
    table = tables["alpha"]
    table = table[table["earlier_task"] < table["task"]]
    methods = list(table["method"].unique())
    if not methods:
        return None
    # The tables have six decimal places, and a logarithm no zero.
    means = table.groupby(["method", "task", "earlier_task"])["alpha"].mean().clip(lower=5e-7)
    tasks = int(table["task"].max())
    columns = min(COLUMNS, len(methods))
    rows = -(-len(methods) // columns)
    side = min(1.0 + 0.42 * tasks, (PAGE - BAR) / columns)
    figure, grid = new_figure(side * columns + BAR, (side + 0.3) * rows, rows, columns, sharex=True, sharey=True)
    # alpha is the exponential of a cosine, so equal steps of agreement are equal steps on a logarithmic scale.
    norm = LogNorm(means.min(), max(means.max(), means.min() * 1.01))
    image = None
    for axes, method in zip(grid.flat, methods, strict=False):
        matrix = np.full((tasks - 1, tasks - 1), np.nan)
        for (task, earlier), value in means.loc[method].items():
            matrix[int(task) - 2, int(earlier) - 1] = value
            if side / tasks > CELL:
                dark = norm(value) < 0.45
                axes.text(
                    earlier, task, f"{value:.2f}", ha="center", va="center", fontsize=6, color="w" if dark else "k"
                )
        extent = (0.5, tasks - 0.5, tasks + 0.5, 1.5)
        image = axes.imshow(matrix, extent=extent, norm=norm, cmap="viridis", aspect="equal")
        axes.set_title(method)
        axes.grid(visible=False)
        step = max(1, round(tasks / (5 * side)))
        axes.set_xticks(range(1, tasks, step))
        axes.set_yticks(range(2, tasks + 1, step))
    label_panels(grid, len(methods), "earlier task τ", "task t")
    if image is not None:
        bar = figure.colorbar(image, ax=grid, shrink=0.8, ticks=MaxNLocator(5), format="{x:g}")
        bar.minorticks_off()
        bar.set_label("α(t, τ)")
    return figure
