"""Figure: average accuracy of the tasks learnt so far, over the stream, with a line for each method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.config.sections import Figures
from pipeline.figures.style import (
    COLUMN,
    CROWDED,
    PAGE,
    family,
    label_panels,
    legend_above,
    line_with_band,
    look,
    new_figure,
    whole_numbers,
)

#: Panels in a row, and lines in a panel, at most, where there are too many lines for one panel.
COLUMNS, LINES = 3, 7


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure:
    """Draw the mean over the seeds, with bands of one standard deviation.

    Many methods are drawn in a panel for each family (ER and its sizes of memory, TAG and its combinations), and those
    without variants together; the reference is in every panel, in grey.
    """
    table = tables["average_accuracy"].assign(percent=lambda rows: 100 * rows["average_accuracy"])
    methods = list(table["method"].unique())
    if len(methods) < CROWDED:
        figure, grid = new_figure(COLUMN, 2.3)
        axes = grid[0, 0]
        _lines(axes, table, methods)
        axes.set_xlabel("tasks learnt")
        axes.set_ylabel("average accuracy (%)")
        legend_above(figure, axes)
        return figure
    panels = families(methods)
    rows = math.ceil(len(panels) / COLUMNS)
    figure, grid = new_figure(PAGE, 0.3 + 2.1 * rows, rows, COLUMNS, sharex=True, sharey=True)
    for axes, members in zip(grid.flat, panels, strict=False):
        if options.reference in methods and options.reference not in members:
            reference = table[table["method"] == options.reference]
            line_with_band(axes, reference, "tasks_learnt", "percent", options.reference, color="#BBBBBB", zorder=1)
        _lines(axes, table, members)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=1.0, borderaxespad=0.2)
    label_panels(grid, len(panels), "tasks learnt", "average accuracy (%)")
    return figure


def _lines(axes: Axes, table: pd.DataFrame, methods: Sequence[str]) -> None:
    for method in methods:
        line_with_band(
            axes, table[table["method"] == method], "tasks_learnt", "percent", method, **look(method, methods)
        )
    whole_numbers(axes)


def families(methods: Sequence[str]) -> list[list[str]]:
    """Part methods into panels of at most `LINES`: first those without variants among them, then each family."""
    members: dict[str, list[str]] = {}
    for method in methods:
        members.setdefault(family(method), []).append(method)
    lone = [group[0] for group in members.values() if len(group) == 1]
    groups = [lone, *(group for group in members.values() if len(group) > 1)]
    return [group[start : start + LINES] for group in groups for start in range(0, len(group), LINES)]
