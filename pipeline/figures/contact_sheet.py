"""Figure: the first images of each task, to show what the stream looks like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pipeline.figures.style import PAGE

#: Tasks in a column, at most, as long as the columns are no more than these; then the columns grow.
ROWS, COLUMNS = 10, 3
#: Tasks on the sheet, at most.
MOST = 90
#: In inches: the largest width of an image; the height of a task's name above its images; the gap between columns.
IMAGE, TITLE, GAP = 0.5, 0.17, 0.25
#: Characters of a task's name that fit into an inch.
LETTERS = 15


def draw(images: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw one row of images for each task, with its name above it.

    Args:
        images: (tasks, n, height, width[, 3]) uint8.
        names: Names of the tasks. Only the first `MOST` are drawn, and the last of these says how many follow.
    """
    if len(names) > MOST:
        images, names = images[:MOST], [*names[: MOST - 1], f"{names[MOST - 1]} (+{len(names) - MOST})"]
    tasks, count, height, width = images.shape[:4]
    rows = min(tasks, ROWS) if tasks <= ROWS * COLUMNS else -(-tasks // COLUMNS)
    columns = -(-tasks // rows)
    page = PAGE if columns > 1 else PAGE / 2
    across = (page - GAP * (columns - 1)) / columns
    side = min(IMAGE, across / count)
    down = side * height / width + TITLE
    figure = Figure(figsize=(page, rows * down))
    figure.set_layout_engine("none")
    for task, (strip, name) in enumerate(zip(images, names, strict=True)):
        column, row = divmod(task, rows)
        bottom = (rows - row - 1) * down
        axes = figure.add_axes(
            (
                column * (across + GAP) / page,
                bottom / (rows * down),
                count * side / page,
                (down - TITLE) / (rows * down),
            )
        )
        axes.imshow(_side_by_side(strip), cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="antialiased")
        axes.set_axis_off()
        title = f"{task + 1}: {name}"
        fits = int(across * LETTERS)
        title = title if len(title) <= fits else title[: fits - 1] + "…"
        axes.set_title(title, loc="left", fontsize=6.5, pad=1.5)
    return figure


def _side_by_side(strip: np.ndarray) -> np.ndarray:
    """(n, height, width[, 3]) -> one image (height, n * (width + gap) - gap[, 3]) with white gaps."""
    gap = max(1, strip.shape[2] // 28)
    padding = [(0, 0), (0, 0), (0, gap)] + [(0, 0)] * (strip.ndim - 3)
    padded = np.pad(strip, padding, constant_values=255)
    return np.concatenate(list(padded), axis=1)[:, :-gap]
