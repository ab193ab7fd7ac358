"""Figure: average accuracy and forgetting of each method, with a dot for every run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.sections import Figures
from pipeline.figures.style import PAGE, colour, new_figure

#: Column of the runs -> label of its panel.
PANELS = {"average_accuracy": "average accuracy (%)", "forgetting": "forgetting (percentage points)"}


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure:
    """Draw a panel for each metric: bars are means over the seeds, dots are single runs.

    With a single task there is no panel for forgetting, which needs two.
    """
    runs = tables["runs"]
    methods = list(runs["method"].unique())
    panels = {metric: label for metric, label in PANELS.items() if metric in runs}
    figure, grid = new_figure(PAGE, 0.8 + 0.28 * max(2, len(methods)), 1, len(panels), sharey=True)
    places = np.arange(len(methods))
    for axes, (metric, label) in zip(grid[0], panels.items(), strict=True):
        for place, method in zip(places, methods, strict=True):
            values = 100 * runs.loc[runs["method"] == method, metric]
            axes.barh(place, values.mean(), color=colour(method), alpha=0.35, height=0.7)
            axes.plot(
                values, np.full(len(values), place), "o", color=colour(method), markersize=3, mec="#222222", mew=0.5
            )
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
    grid[0, 0].set_yticks(places, methods)
    grid[0, 0].set_ylim(len(methods) - 0.4, -0.6)
    return figure
