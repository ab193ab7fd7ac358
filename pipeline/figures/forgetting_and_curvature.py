"""Figure: a test of the Stable SGD paper's account of forgetting.

Does a task lose as much accuracy as its curvature and the movement of the weights predict?
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.sections import Figures
from pipeline.figures.style import (
    PAGE,
    legend_above,
    line_with_band,
    look,
    new_figure,
    plain_log_scale,
    whole_numbers,
    without_bound,
    without_repeats,
)


def draw(tables: Mapping[str, pd.DataFrame], options: Figures) -> Figure | None:
    """Draw the forgetting of task 1 against the movement of the weights since then.

    Left: the accuracy that task 1 has lost against lambda_1 ||dw||^2, with a dot for each later task of each run; where
    lambda_1 is not known, the label counts those without a dot.
    Right: the share of the movement that lies in the top eigenvectors of task 1's Hessian.

    Returns:
        The figure; None if there is only one task, or if no run has eigenvalues.
    """
    table = tables["movement"]
    table = table[table["task"] == 1]
    if not len(table):
        return None
    methods = list(table["method"].unique())
    distinct = without_repeats(table, ["seed", "tasks_learnt", "lambda_distance_squared", "overlap"])
    figure, grid = new_figure(PAGE, 2.6, 1, 2)
    left, right = grid[0]
    for method in methods:
        rows = table[table["method"] == method]
        shown = look(method, methods)
        moved = rows[rows["lambda_distance_squared"] > 0]
        left.plot(
            moved["lambda_distance_squared"], 100 * moved["forgetting"], label=method, alpha=0.7,
            **(shown | {"linestyle": ""}),
        )  # fmt: skip
        if method not in distinct:
            continue
        percent = rows.assign(percent=100 * rows["overlap"])
        line_with_band(right, percent, "tasks_learnt", "percent", method, least=0, **shown)
    spread = table["lambda_distance_squared"]
    plain_log_scale(left, "x", (1, 2, 5) if spread.max() < 100 * spread[spread > 0].min() else (1,))
    left.set_xlabel(f"λ$_1$ · ‖Δw‖² since task 1{without_bound(spread)}")
    left.set_ylabel("accuracy lost on task 1 (points)")
    right.set_xlabel("tasks learnt")
    right.set_ylabel("movement in the top\neigenvectors of task 1 (%)")
    whole_numbers(right)
    legend_above(figure, left)
    return figure
