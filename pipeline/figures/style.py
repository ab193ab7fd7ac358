"""One look for every figure: sizes for a paper's column, a colour-blind safe palette, a method's colour fixed by its name."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

#: Widths in inches of one and of two columns of a paper.
COLUMN, PAGE = 3.5, 7.0

# Of methods without a colour of their own: Tol's muted scheme. The named ones: Okabe and Ito (2008), without yellow.
_PALETTE = ("#332288", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#8C564B")
_NAMED = {
    "naive": "#7F7F7F",
    "stable": "#0072B2",
    "rmsprop": "#E69F00",
    "tag": "#D55E00",
    "ewc": "#009E73",
    "agem": "#CC79A7",
    "er": "#56B4E9",
    "multitask": "#000000",
    # of the Stable SGD experiments, whose names would give some of them one colour
    "plastic": "#8C564B",
    "stable-agem": "#332288",
    "stable-dropout-at-test": "#44AA99",
    "stable-as-scripted": "#AA4499",
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")

STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "tag",  # the same figure gives the same bytes
}


def colour(method: str) -> str:
    """The same in every figure and every run."""
    return _NAMED.get(method) or _PALETTE[zlib.crc32(method.encode()) % len(_PALETTE)]


def marker(method: str, methods: Sequence[str]) -> str:
    """Tells methods apart where colours do not."""
    return _MARKERS[list(methods).index(method) % len(_MARKERS)]


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure without pyplot's global state, and a (rows, columns) array of its axes."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def line_with_band(axes: Axes, table: pd.DataFrame, x: str, y: str, label: str, **line: Any) -> None:
    """The mean over the seeds against x, and a band of one standard deviation where there are several seeds."""
    grouped = table.groupby(x)[y]
    mean, std = grouped.mean(), grouped.std(ddof=1)
    (drawn,) = axes.plot(mean.index, mean, label=label, **line)
    if std.notna().any():
        axes.fill_between(
            np.asarray(mean.index), mean - std, mean + std, color=drawn.get_color(), alpha=0.15, linewidth=0
        )


def mark_doubtful(axes: Axes, spectrum: pd.DataFrame, colour: str) -> None:
    """A cross at every eigenvalue that did not converge."""
    doubtful = spectrum[~spectrum["converged"].astype(bool)]
    if len(doubtful):
        axes.plot(doubtful["task"], doubtful["eigenvalue"], "x", color=colour, markersize=6)


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """Colours of tasks, from dark to light, so that their order is seen."""
    return [tuple(shade) for shade in mpl.colormaps["viridis"](np.linspace(0, 0.85, count))]


def plain_log_scale(axes: Axes, which: Literal["x", "y"] = "y", subs: Sequence[int] = (1, 2, 5)) -> None:
    """A logarithmic axis whose ticks read 0.5, 1, 2, 5."""
    axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def legend_above(figure: Figure, source: Axes) -> None:
    """The legend of `source` above the whole figure, in as many columns as its width takes; the figure grows to hold it."""
    handles, labels = source.get_legend_handles_labels()
    width, height = figure.get_size_inches()
    widest = 0.4 + 0.06 * max(len(label) for label in labels)  # inches, for the legend's font size
    columns = min(len(labels), max(1, int(width / widest)))
    figure.set_size_inches(width, height + 0.15 * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def label_panels(grid: Any, used: int, x: str, y: str) -> None:
    """Hide the panels after the first `used` of a grid with shared axes; name the axes at its left and lower edges."""
    columns = grid.shape[1]
    for number, axes in enumerate(grid.flat):
        axes.set_visible(number < used)
        if number < used <= number + columns:
            axes.set_xlabel(x)
            axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel(y)


def whole_numbers(axes: Axes) -> None:
    """Tasks are counted: no ticks between them."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
