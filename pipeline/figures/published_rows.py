"""Figure: every published row beside ours: the two accuracies, and their difference with its intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from pipeline.analysis.agreement import (
    EQUIVALENCE_LEVEL,
    MARGIN,
    Row,
    Standing,
    agreement,
    equivalence_interval,
    standing,
)
from pipeline.analysis.intervals import LEVEL, NEAR, Estimate
from pipeline.figures.style import PAGE, new_figure

#: Colour and marker of a row's difference, by where the row stands. Okabe and Ito (2008); shapes tell them apart, too.
LOOKS: dict[Standing, tuple[str, str]] = {
    "shown equal": ("#0072B2", "o"),
    "not shown different": ("#E69F00", "s"),
    "different": ("#D55E00", "D"),
    "no interval": ("#7F7F7F", "x"),
}
OURS, PUBLISHED, MEAN = "#000000", "#7F7F7F", "#000000"
#: Inches of a row, and of all that is around the rows.
LINE, AROUND = 0.175, 1.1
#: Points on either side of 0 beyond which an interval of a difference is cut off: that of two seeds can be very wide.
REACH = 12.0
#: Place of the published mean below ours, in rows.
BESIDE = 0.28


def draw(rows: Sequence[Row]) -> Figure:
    """Draw a line for each row, below the name of its experiment, and one for the mean difference of all.

    Thin lines are the 95 % intervals. The thick ones are those at the level of the tests of equivalence: a row is shown
    equal where the thick line lies within the outer band.

    Args:
        rows: One row or more, those of an experiment together.
    """
    places, headings = _places(rows)
    together = agreement(rows)
    lines = len(rows) + len(headings) + (2 if together else 0)
    figure, grid = new_figure(PAGE, AROUND + LINE * lines, 1, 2, sharey=True, width_ratios=(1, 1.15))
    accuracies, differences = grid[0]
    for place, row in zip(places, rows, strict=True):
        ours, published = row.comparison.ours, row.comparison.row.accuracy
        _interval(accuracies, place - BESIDE / 2, ours, color=OURS, marker="o")
        _interval(accuracies, place + BESIDE / 2, published, color=PUBLISHED, marker="s", markerfacecolor="white")
        colour, marker = LOOKS[standing(row.comparison)]
        _interval(differences, place, row.comparison.difference, color=colour, marker=marker)
        if row.comparison.verdict != "reproduced":
            differences.annotate(
                row.comparison.verdict, (1, place), (2, 0), ("axes fraction", "data"), "offset points",
                ha="left", va="center", fontsize=7, weight="bold", annotation_clip=False,
            )  # fmt: skip
        if inner := equivalence_interval(row.comparison):
            differences.plot(inner, [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
    labels = [_label(row) for row in rows]
    if together:
        _interval(differences, lines - 1, together.mean, color=MEAN, marker="D")
        places.append(lines - 1)
        labels.append(f"mean of {together.rows} rows")
    _bands(differences)
    estimates = [row.comparison.difference for row in rows] + ([together.mean] if together else [])
    colours = [LOOKS[standing(row.comparison)][0] for row in rows] + ([MEAN] if together else [])
    cut = _cut(differences, list(zip(places, estimates, colours, strict=True)))
    differences.set_xlabel(
        f"ours less published (points)\nintervals: thin {100 * LEVEL:.0f} %, thick {100 * EQUIVALENCE_LEVEL:.0f} %"
        + ("\n◂ ▸: goes on" if cut else "")
    )
    accuracies.set_xlabel(f"average accuracy (%)\nwith {100 * LEVEL:.0f} % interval")
    accuracies.set_yticks(places, labels)
    accuracies.set_ylim(lines - 0.4, -0.6)
    for axes in (accuracies, differences):
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
    for place, name in headings.items():
        _beside(accuracies, place, name, weight="bold")
    _beside(accuracies, -1, "seeds: ours | published", fontsize=7, color="#555555")
    _legends(accuracies, differences, {standing(row.comparison) for row in rows})
    return figure


def _places(rows: Sequence[Row]) -> tuple[list[int], dict[int, str]]:
    """The line of each row, and the lines of the experiments' names."""
    places: list[int] = []
    headings: dict[int, str] = {}
    for row in rows:
        if row.experiment not in headings.values():
            headings[len(places) + len(headings)] = row.experiment
        places.append(len(places) + len(headings))
    return places, headings


def _label(row: Row) -> str:
    """Name of a row, with the number of seeds: ours, then the published."""
    so_far = " so far" if row.comparison.ours.n < row.planned else ""
    name = f"{row.comparison.row.row} ({row.comparison.method})"
    return f"{name}  {row.comparison.ours.n}{so_far} | {row.comparison.row.accuracy.n}"


def _beside(axes: Axes, place: float, text: str, **look: Any) -> None:
    """Write text at a line where the labels of the rows stand."""
    axes.annotate(
        text, (0, place), (-4, 0), ("axes fraction", "data"), "offset points", ha="right", va="center", **look
    )


def _interval(axes: Axes, place: float, value: Estimate, **look: Any) -> None:
    """Draw a mean, and its interval if it has one."""
    if value.low is not None and value.high is not None:
        axes.plot([value.low, value.high], [place, place], color=look["color"], linewidth=1.1, solid_capstyle="butt")
    axes.plot(value.mean, place, linestyle="", markersize=3.6, markeredgewidth=0.9, **look)


def _cut(axes: Axes, intervals: Sequence[tuple[float, Estimate, str]]) -> bool:
    """Bound the axis so that one wide interval does not squeeze the others, and mark those that go on beyond it.

    Args:
        axes: The panel of differences.
        intervals: Line, difference and colour of each.

    Returns:
        Whether any goes on beyond the axis.
    """
    reach = max(REACH, *(1.2 * abs(value.mean) for _, value, _ in intervals))
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -reach), min(high, reach))
    cut = False
    for place, value, colour in intervals:
        for end, edge, marker in ((value.low, -reach, "<"), (value.high, reach, ">")):
            if end is not None and abs(end) > reach and end * edge > 0:
                axes.plot(edge, place, marker=marker, color=colour, markersize=4, markeredgewidth=0, clip_on=False)
                cut = True
    return cut


def _bands(axes: Axes) -> None:
    """Shade the two limits of the verdict, the outer of which is the margin of equivalence."""
    axes.axvspan(-MARGIN, MARGIN, color="#F0F0F0", linewidth=0, zorder=0)
    axes.axvspan(-NEAR, NEAR, color="#DCDCDC", linewidth=0, zorder=0)
    axes.axvline(0, color="#555555", linewidth=0.8, zorder=1)
    axes.xaxis.set_major_locator(MultipleLocator(MARGIN))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0")


def _legends(accuracies: Axes, differences: Axes, standings: set[Standing]) -> None:
    """Explain the marks above each panel."""
    options: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "columnspacing": 1.0}
    accuracies.legend(
        handles=[
            Line2D([], [], color=OURS, marker="o", linewidth=1.1, label="ours"),
            Line2D([], [], color=PUBLISHED, marker="s", markerfacecolor="white", linewidth=1.1, label="published"),
        ],
        ncols=2, **options,
    )  # fmt: skip
    marks = [
        Line2D([], [], color=colour, marker=marker, linewidth=1.1, label=name)
        for name, (colour, marker) in LOOKS.items()
        if name in standings
    ]
    bands = [
        Patch(color="#DCDCDC", label=f"±{NEAR:g}: reproduced"),
        Patch(color="#F0F0F0", label=f"±{MARGIN:g} points: equal"),
    ]
    differences.legend(handles=[*marks, *bands], ncols=2, **options)
