"""Figure: what each method costs and what it brings, as seconds of training against average accuracy."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pipeline.figures.style import COLUMN, colour, legend_above, marker, new_figure, plain_log_scale


def draw(runs: pd.DataFrame) -> Figure:
    """Draw a small marker for each run and a large one for the mean of each method.

    Args:
        runs: Table with the columns method, average_accuracy (a fraction) and seconds.
    """
    methods = list(runs["method"].unique())
    figure, grid = new_figure(COLUMN, 2.6)
    axes = grid[0, 0]
    for method in methods:
        rows = runs[runs["method"] == method]
        look = {"color": colour(method), "marker": marker(method, methods), "linestyle": ""}
        axes.plot(rows["seconds"], 100 * rows["average_accuracy"], markersize=2.5, alpha=0.5, **look)
        axes.plot(rows["seconds"].mean(), 100 * rows["average_accuracy"].mean(), markersize=6, label=method, **look)
    plain_log_scale(axes, "x")
    axes.set_xlabel("seconds of training a run")
    axes.set_ylabel("average accuracy (%)")
    legend_above(figure, axes)
    return figure
