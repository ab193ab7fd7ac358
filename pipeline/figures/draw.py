"""Read the tables, draw every figure and write the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.config.sections import Figures
from pipeline.figures import (
    accuracy_and_forgetting,
    accuracy_matrix,
    accuracy_of_tasks,
    alpha_heat_map,
    alpha_over_stream,
    average_accuracy,
    contact_sheet,
    eigenvalues,
    eigenvalues_of_layers,
    forgetting_and_curvature,
    loss_along_line,
    paired_differences,
    predicted_forgetting,
    spectral_density,
    stable_plastic,
)
from pipeline.figures.style import common_look
from pipeline.handover.plots import PLOTS, check_plots
from pipeline.handover.tables import read_table

FIX = "run 'dvc repro summarize'"
Tables = Mapping[str, pd.DataFrame]
#: The first images of each task, (tasks, n, height, width[, 3]) uint8, and the tasks' names.
FirstImages = tuple[np.ndarray, Sequence[str]]

#: Of each format: with a date in it, the same figure would be a different file each time.
WITHOUT_DATE: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}

#: File name -> the function that draws it from the tables; it returns None if the runs have nothing to draw.
FIGURES: dict[str, Callable[[Tables, Figures], Figure | None]] = {
    "accuracy_of_tasks": accuracy_of_tasks.draw,
    "accuracy_matrix": accuracy_matrix.draw,
    "average_accuracy": average_accuracy.draw,
    "accuracy_and_forgetting": accuracy_and_forgetting.draw,
    "paired_differences": paired_differences.draw,
    "eigenvalues": eigenvalues.draw,
    "forgetting_and_curvature": forgetting_and_curvature.draw,
    "predicted_forgetting": predicted_forgetting.draw,
    "loss_along_line": loss_along_line.draw,
    "eigenvalues_of_layers": eigenvalues_of_layers.draw,
    "spectral_density": spectral_density.draw,
    "stable_plastic": stable_plastic.draw,
    "alpha_heat_map": alpha_heat_map.draw,
    "alpha_over_stream": alpha_over_stream.draw,
}


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read every table of plots/.

    Args:
        folder: The folder plots/.

    Returns:
        Name of each table -> the table.

    Raises:
        UserError: if a table is missing, damaged or does not fit the others.
    """
    tables = {name: read_table(folder / f"{name}.csv", table, FIX) for name, table in PLOTS.items()}
    check_plots(tables, folder, FIX)
    return tables


def draw_all(tables: Tables, options: Figures, folder: Path, first: FirstImages | None) -> list[str]:
    """Draw every figure and write it as PNG, and as the vector graphics that the options name.

    Args:
        tables: The tables of plots/, by name.
        options: The `figures` section of params.yaml.
        folder: Where to write the files.
        first: What the contact sheet shows; None leaves it out.

    Returns:
        The names of the figures that were drawn, those without anything to draw left out.
    """
    with common_look():
        figures = {name: draw(tables, options) for name, draw in FIGURES.items()}
        if first is not None:
            figures["contact_sheet"] = contact_sheet.draw(*first)
        drawn = {name: figure for name, figure in figures.items() if figure is not None}
        for name, figure in drawn.items():
            figure.savefig(folder / f"{name}.png", dpi=options.dpi)
            for suffix in options.vector_formats:
                figure.savefig(folder / f"{name}.{suffix}", metadata=WITHOUT_DATE[suffix])
    return list(drawn)
