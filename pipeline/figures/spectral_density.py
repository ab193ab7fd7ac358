"""Figure: the spectral density of each task's Hessian right after it was learnt, with one panel per method."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from pipeline.config.sections import Figures
from pipeline.figures.style import PAGE, label_panels, legend_above, new_figure, shades

#: The standard deviation of the normal curve that stands for a node, as a share of the range of all nodes; the number
#: of points at which curves are drawn.
WIDTH, POINTS = 0.01, 600


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw the mean over probes and seeds, on a logarithmic axis, because most of the spectrum is at 0.

    Returns:
        The figure; None if no density was computed.
    """
    table = tables["density"]
    if not len(table):
        return None
    methods, tasks = list(table["method"].unique()), sorted(table["task"].unique())
    columns = min(4, len(methods))
    rows = -(-len(methods) // columns)
    figure, grid = new_figure(PAGE, 0.6 + 1.7 * rows, rows, columns, sharex=True, sharey=True)
    seen = table[table["weight"] > 0]
    low, high = seen["node"].min(), seen["node"].max()
    width = WIDTH * max(high - low, 1e-12)
    top = 1e-5 / width
    at = np.linspace(low - 4 * width, high + 4 * width, POINTS)
    for axes, method in zip(grid.flat, methods, strict=False):
        of_method = seen[seen["method"] == method]
        for task, shade in zip(tasks, shades(len(tasks)), strict=True):
            rows_of_task = of_method[of_method["task"] == task]
            probes = len(rows_of_task[["seed", "probe"]].drop_duplicates())
            nodes, weights = rows_of_task["node"].to_numpy(), rows_of_task["weight"].to_numpy()
            curves = np.exp(-0.5 * ((at[:, None] - nodes) / width) ** 2) / (width * np.sqrt(2 * np.pi))
            density = curves @ weights / max(1, probes)
            top = max(top, density.max(initial=0.0))
            axes.plot(at, density, color=shade, label=f"task {task}", linewidth=0.9)
        axes.set_title(method)
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    # Below the lower limit, a curve shows no more than the tail of a single node.
    grid[0, 0].set_ylim(1e-6 / width, 3 * top)
    label_panels(grid, len(methods), "eigenvalue", "density")
    legend_above(figure, grid[0, 0])
    return figure
