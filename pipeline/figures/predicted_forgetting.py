"""Figure: what the quadratic model of a task's loss predicts later tasks to cost it, against what they cost."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from pipeline.analysis.prediction import described, distinct, rank_correlation
from pipeline.config.sections import Figures
from pipeline.figures.style import PAGE, colour, legend_above, marker, matrix_name, new_figure, without_bound

#: Below it, in nats, the axes are linear: a rise may be negative.
LINEAR = 0.01
#: The matrix of the quadratic model -> its symbol.
SYMBOLS = {"Hessian": "H", "Gauss-Newton": "G", "Fisher": "F"}
#: Column of the predictions -> label of its axis.
PREDICTIONS = {
    "predicted_rise": "predicted: g$^T$Δw + ½ Δw$^T$SYMBOLΔw (nats)",
    "bound": "bound: ½ λ$_1$ ‖Δw‖² (nats)",
}


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw a dot for each task and each later task of each run, with the line of equality and the rank correlation.

    Left: the quadratic model. Right: the bound that the Stable SGD paper argues with; its label counts the pairs that
    have none.

    Returns:
        The figure; None if no run has predictions.
    """
    if tables["prediction"].empty:
        return None
    table = distinct(tables["prediction"])
    methods = list(table["method"].unique())
    symbol = SYMBOLS.get(matrix_name(tables["eigenvalues"]), "C")
    figure, grid = new_figure(PAGE, 3.0, 1, 2, sharey=True)
    for axes, (column, label) in zip(grid[0], PREDICTIONS.items(), strict=True):
        for method in methods:
            rows = table[table["method"] == method]
            axes.plot(
                rows[column], rows["rise"], linestyle="", label=method, alpha=0.7, color=colour(method),
                marker=marker(method, methods),
            )  # fmt: skip
        _symmetric_log(axes)
        axes.set_xlabel(label.replace("SYMBOL", symbol) + without_bound(table[column]))
        axes.set_title(f"rank correlation {described(rank_correlation(table, column, 'rise'))}")
    for axes in grid[0]:
        _equality(axes)
    grid[0, 0].set_ylabel("rise of the task's loss (nats)")
    legend_above(figure, grid[0, 0])
    return figure


def _symmetric_log(axes: Axes) -> None:
    """Make both axes logarithmic, but linear around 0, so that they also show what lies below it."""
    axes.set_xscale("symlog", linthresh=LINEAR)
    axes.set_yscale("symlog", linthresh=LINEAR)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())


def _equality(axes: Axes) -> None:
    """Draw the line of equality from edge to edge; the horizontal axis grows where it would leave the panel."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    left = min(left, max(low, -LINEAR) if left >= -LINEAR else low)  # the decades below 0 only where there are dots
    axes.set(xlim=(left, max(right, high)), ylim=(low, high))
    begin = max(left, low)
    axes.plot([begin, high], [begin, high], color="#7F7F7F", linewidth=0.8, zorder=0.9)
