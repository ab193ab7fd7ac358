"""TAG's alpha(t, tau): how much the second moment of each earlier task weighs while a task is learnt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.config.schema import Figures
from pipeline.figures.style import new_figure


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """One panel a TAG method; the mean over tensors, steps and seeds. Large (the step is held back): the task's direction
    opposes the earlier one's. None where no method runs TAG, or only one task was learnt."""
    table = tables["alpha"]
    table = table[table["earlier_task"] < table["task"]]
    methods = list(table["method"].unique())
    if not methods:
        return None
    means = table.groupby(["method", "task", "earlier_task"])["alpha"].mean()
    tasks = int(table["task"].max())
    size = 1.0 + 0.42 * min(tasks, 12)
    figure, grid = new_figure(size * len(methods) + 0.9, size + 0.3, 1, len(methods), sharey=True)
    # alpha is the exponential of a cosine: equal steps of agreement are equal steps of its logarithm.
    norm = LogNorm(means.min(), max(means.max(), means.min() * 1.01))
    image = None
    for axes, method in zip(grid[0], methods, strict=True):
        matrix = np.full((tasks - 1, tasks - 1), np.nan)
        for (task, earlier), value in means.loc[method].items():
            matrix[int(task) - 2, int(earlier) - 1] = value
            if tasks <= 12:
                dark = norm(value) < 0.6
                axes.text(
                    earlier, task, f"{value:.2f}", ha="center", va="center", fontsize=6, color="w" if dark else "k"
                )
        extent = (0.5, tasks - 0.5, tasks + 0.5, 1.5)
        image = axes.imshow(matrix, extent=extent, norm=norm, cmap="viridis", aspect="equal")
        axes.set_title(method)
        axes.set_xlabel("earlier task τ")
        axes.grid(visible=False)
        step = 1 if tasks <= 12 else 2
        axes.set_xticks(range(1, tasks, step))
        axes.set_yticks(range(2, tasks + 1, step))
    grid[0, 0].set_ylabel("task t")
    if image is not None:
        bar = figure.colorbar(image, ax=grid, shrink=0.8, ticks=MaxNLocator(5), format="{x:g}")
        bar.minorticks_off()
        bar.set_label("α(t, τ)")
    return figure
