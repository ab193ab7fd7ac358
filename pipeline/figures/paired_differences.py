"""Figure: what each method has more or less than the reference, paired by seed, with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.analysis.intervals import paired_difference
from pipeline.config.sections import Figures
from pipeline.figures.style import PAGE, colour, new_figure

#: Column of the runs -> what the label of its panel calls it.
PANELS = {"average_accuracy": "average accuracy", "forgetting": "forgetting"}
#: Place of the dots of the seeds below the mean, in rows.
BELOW = 0.3


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw a panel for each metric: a dot is a seed, a diamond the mean, the bar its 95 % interval by Student's t.

    A mean of a single seed, which has no interval, is hollow. Beside each method's name is the number of its seeds.

    Two methods with one seed saw the same data in the same order, so that their difference varies less than either of
    them. Without the reference, or a method that has a seed in common with it, there is nothing to draw.
    """
    runs, reference = tables["runs"], options.reference
    panels = {metric: label for metric, label in PANELS.items() if metric in runs}
    values: dict[tuple[str, str], dict[int, float]] = {
        (str(method), metric): dict(zip(of_method["seed"], 100 * of_method[metric], strict=True))
        for method, of_method in runs.groupby("method", sort=False)
        for metric in panels
    }
    theirs = {metric: values.get((reference, metric), {}) for metric in panels}
    others = [
        method
        for method in runs["method"].unique()
        if method != reference and set(values[method, "average_accuracy"]) & set(theirs["average_accuracy"])
    ]
    if not others:
        return None
    figure, grid = new_figure(PAGE, 0.8 + 0.28 * max(2, len(others)), 1, len(panels), sharey=True)
    for axes, (metric, label) in zip(grid[0], panels.items(), strict=True):
        axes.axvline(0, color="black", linewidth=0.8)
        for place, method in enumerate(others):
            ours = values[method, metric]
            found = paired_difference(ours, theirs[metric])
            if found is None:
                continue
            seeds = [ours[seed] - theirs[metric][seed] for seed in sorted(set(ours) & set(theirs[metric]))]
            lone = found.low is None or found.high is None
            if not lone:
                axes.plot([found.low, found.high], [place, place], "-", color=colour(method), solid_capstyle="butt")
                axes.plot(seeds, np.full(len(seeds), place + BELOW), "o", color=colour(method), markersize=2.2, mew=0)
            face = "white" if lone else colour(method)
            axes.plot(found.mean, place, "D", color=colour(method), markerfacecolor=face, markersize=4.5, mew=1.0)
        axes.set_xlabel(f"{label} less that of {reference} (points)")
        axes.grid(axis="y", visible=False)
    counts = [len(set(values[method, "average_accuracy"]) & set(theirs["average_accuracy"])) for method in others]
    labels = [f"{method} ({count})" for method, count in zip(others, counts, strict=True)]
    grid[0, 0].set_yticks(range(len(others)), labels)
    grid[0, 0].set_ylim(len(others) - 0.4, -0.6)
    return figure
