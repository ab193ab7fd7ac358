"""The common look of all figures: column widths of a paper, a colour-blind safe palette, a fixed colour per method."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

#: Width in inches of one column, and of both columns, of a paper.
COLUMN, PAGE = 3.5, 7.0

# For methods of no family in _NAMED: Tol's muted scheme, with brown instead of cyan. In _NAMED: Okabe and Ito (2008),
# without yellow, and grey for naive.
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
    # The Stable SGD experiments: by their names alone, some of these methods would share a colour.
    "plastic": "#8C564B",
    "stable-agem": "#332288",
    "stable-dropout-at-test": "#44AA99",
    "stable-as-scripted": "#AA4499",
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_DASHES = ("-", "--", ":", "-.")
#: How far the colours of a family's variants go to white (above 0) or to black (below).
_TINTS = (0.3, -0.3, 0.5, -0.5)
#: The memory, in examples per class, whose variants are lightest and darkest.
_SMALL, _LARGE = 1, 16
#: From this number of methods on, the lines of all of them in one panel cannot be told apart.
CROWDED = 11

#: Matplotlib's settings for all figures.
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


@contextmanager
def common_look() -> Iterator[None]:
    """Draw and write figures as `STYLE` says during the block, and in all else as Matplotlib does by default.

    A matplotlibrc of the user would change the figures' bytes, or, with TeX, end in an error.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast("Any", STYLE))
        yield


def family(method: str) -> str:
    """Return the method that a name says another is a variant of: "agem" of "agem-13-all", "tag" of "tag-er".

    It is that of _NAMED with which the name begins or else ends, by whole words; the method itself if there is none.
    """
    words = method.split("-")
    names = ["-".join(words[:count]) for count in range(len(words), 0, -1)]
    names += ["-".join(words[-count:]) for count in range(len(words) - 1, 0, -1)]
    return next((name for name in names if name in _NAMED), method)


def colour(method: str) -> str:
    """Return the colour of a method, which is the same in every figure and every run.

    A variant has a shade of its family's colour, by its number if the name has one: the larger a memory, the darker.
    """
    of = family(method)
    if of not in _NAMED:
        return _PALETTE[zlib.crc32(method.encode()) % len(_PALETTE)]
    if of in (method, "multitask"):  # a shade of black would be the grey of naive
        return _NAMED[of]
    numbers = [int(word) for word in method.split("-") if word.isdigit()]
    if numbers:
        share = math.log(max(numbers[0], _SMALL) / _SMALL) / math.log(_LARGE / _SMALL)
        tint = 0.5 - min(1.0, share)
    else:
        tint = _TINTS[zlib.crc32(method.encode()) % len(_TINTS)]
    end = 1.0 if tint > 0 else 0.0
    red, green, blue = ((1 - abs(tint)) * part + abs(tint) * end for part in to_rgb(_NAMED[of]))
    return to_hex((red, green, blue))


def marker(method: str, methods: Sequence[str]) -> str:
    """Return the marker of a method among `methods`, to tell methods apart where colours do not."""
    return _MARKERS[list(methods).index(method) % len(_MARKERS)]


def look(method: str, methods: Sequence[str]) -> dict[str, Any]:
    """Return what tells the line of a method from those of the others among `methods`: colour, marker and dashes.

    Two methods have the same look only if there are more of them than markers times dashes.
    """
    place = list(methods).index(method)
    dashes = _DASHES[(place + place // len(_MARKERS)) % len(_DASHES)]
    return {"color": colour(method), "marker": marker(method, methods), "linestyle": dashes}


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Make a figure without pyplot's global state.

    Args:
        width: Width in inches.
        height: Height in inches.
        rows: Rows of axes.
        columns: Columns of axes.
        **options: Further options for `Figure.subplots`.

    Returns:
        The figure, and a (rows, columns) array of its axes.
    """
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def without_repeats(table: pd.DataFrame, columns: Sequence[str]) -> dict[str, str]:
    """Choose the methods to draw where the lines of some would cover those of others exactly.

    Methods that differ only in how they are evaluated have the same weights.

    Args:
        table: Rows of methods, with a column `method`.
        columns: The columns by which two methods are the same.

    Returns:
        Each method to draw, the first of those that are the same, and its label, which names the others.
    """
    kept: dict[bytes, list[str]] = {}
    for method, rows in table.groupby("method", sort=False):
        kept.setdefault(rows[list(columns)].to_numpy(dtype=float).tobytes(), []).append(str(method))
    return {same[0]: " = ".join(same) for same in kept.values()}


def without_bound(bounds: pd.Series) -> str:
    """Say, in a line that is added to a label, for how many pairs of tasks there is no bound; nothing if all have one."""
    count = int(bounds.isna().sum())
    return f"\n(none for {count} of {len(bounds)}: all eigenvalues found are negative)" if count else ""


def line_with_band(
    axes: Axes, table: pd.DataFrame, x: str, y: str, label: str, least: float = -math.inf, **line: Any
) -> None:
    """Draw the mean over the seeds against x, and a band of one standard deviation where there are several seeds.

    Args:
        axes: The axes to draw into.
        table: One row for each seed and value of x.
        x: Column of the horizontal axis.
        y: Column whose mean and standard deviation are drawn.
        label: Label of the line in the legend.
        least: The least value that there can be, where the band ends.
        **line: Further options for `Axes.plot`.
    """
    grouped = table.groupby(x)[y]
    mean, std = grouped.mean(), grouped.std(ddof=1)
    (drawn,) = axes.plot(mean.index, mean, label=label, **line)
    if std.notna().any():
        axes.fill_between(
            np.asarray(mean.index),
            np.maximum(mean - std, least),
            mean + std,
            color=drawn.get_color(),
            alpha=0.15,
            linewidth=0,
        )


def mark_doubtful(axes: Axes, spectrum: pd.DataFrame, colour: str, x: str = "task", y: str = "eigenvalue") -> None:
    """Draw a cross at every eigenvalue that did not converge; `x` and `y` are the columns that are drawn."""
    doubtful = spectrum[~spectrum["converged"].astype(bool)]
    if len(doubtful):
        axes.plot(doubtful[x], doubtful[y], "x", color=colour, markersize=6)


def matrix_name(spectrum: pd.DataFrame) -> str:
    """Return what to call the matrix that the table `eigenvalues` is about, such as "Hessian"."""
    names = {"hessian": "Hessian", "gauss-newton": "Gauss-Newton", "fisher": "Fisher"}
    found = spectrum["matrix"].unique()
    return names[found[0]] if len(found) == 1 else "curvature"


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """Return the colours (RGBA) of `count` tasks, from dark to light, so that their order can be seen."""
    return [tuple(shade) for shade in mpl.colormaps["viridis"](np.linspace(0, 0.75, count))]


def plain_log_scale(axes: Axes, which: Literal["x", "y"] = "y", subs: Sequence[float] = (1, 2, 5)) -> None:
    """Make an axis logarithmic, with plain numbers such as 0.5, 1, 2 and 5 at its ticks.

    Args:
        axes: The axes.
        which: Which of its two axes.
        subs: Multiples of each power of ten at which there is a tick.
    """
    axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def legend_above(figure: Figure, source: Axes) -> None:
    """Put the legend of `source` above the whole figure, in as many columns as fit; the figure grows by its height."""
    handles, labels = source.get_legend_handles_labels()
    width, height = figure.get_size_inches()
    widest = 0.4 + 0.06 * max(len(label) for label in labels)  # inches, for the legend's font size
    rows = math.ceil(len(labels) / max(1, int(width / widest)))
    columns = math.ceil(len(labels) / rows)  # as few as the rows need, so that none of them is nearly empty
    figure.set_size_inches(width, height + 0.15 * rows)
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def label_panels(grid: Any, used: int, x: str, y: str) -> None:
    """Label the outer axes of a grid of panels with shared axes, and hide the panels that are not used.

    Args:
        grid: (rows, columns) array of axes.
        used: Number of panels in use, counted row by row; those after them are hidden.
        x: Label of the horizontal axes, below the lowest used panel of each column.
        y: Label of the vertical axes, at the left of each row.
    """
    columns = grid.shape[1]
    for number, axes in enumerate(grid.flat):
        axes.set_visible(number < used)
        if number < used <= number + columns:
            axes.set_xlabel(x)
            axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel(y)


def whole_numbers(axes: Axes, most: int | Literal["auto"] = "auto") -> None:
    """Put the ticks of the horizontal axis at whole numbers only, because it counts tasks; at most so many intervals."""
    axes.xaxis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))
