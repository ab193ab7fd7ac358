"""Figure: the largest eigenvalue of each layer's block of the Hessian, with a line for each method."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.sections import Figures
from pipeline.figures.style import (
    COLUMN,
    PAGE,
    colour,
    legend_above,
    line_with_band,
    mark_doubtful,
    marker,
    new_figure,
    plain_log_scale,
)

#: More layers than these take the width of a page.
NARROW = 8


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw, from input to output, the mean over tasks and seeds, with bands of one standard deviation.

    A cross marks each eigenvalue of a single run that did not converge.

    Returns:
        The figure; None if no run has the blocks of its layers.
    """
    table = tables["layers"]
    if table.empty:
        return None
    table = table.assign(size=table["eigenvalue"].abs())
    methods = list(table["method"].unique())
    names = table.drop_duplicates("layer").set_index("layer")["name"].sort_index()
    figure, grid = new_figure(COLUMN if len(names) <= NARROW else PAGE, 2.6)
    axes = grid[0, 0]
    for method in methods:
        rows = table[table["method"] == method]
        line_with_band(axes, rows, "layer", "size", method, color=colour(method), marker=marker(method, methods))
        mark_doubtful(axes, rows, colour(method), "layer", "size")
    if (table["size"] > 0).all():
        plain_log_scale(axes, subs=(1, 2, 5) if table["size"].max() < 100 * table["size"].min() else (1,))
    axes.set_xticks(list(names.index), list(names), rotation=45 if len(names) <= NARROW else 90, ha="right")
    axes.set_ylabel("largest eigenvalue\nof the layer's block")
    legend_above(figure, axes)
    return figure
