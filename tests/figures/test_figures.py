from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Figures
from pipeline.errors import UserError
from pipeline.figures import FIGURES, draw_all, read_tables
from pipeline.figures.style import colour
from pipeline.summary import RunMetrics, tables

OPTIONS = Figures(dpi=60, stable="stable", plastic="naive")


def runs(methods: int, seeds: int, tasks: int) -> list[RunMetrics]:
    """Made-up numbers that differ from run to run."""
    made = []
    for m in range(methods):
        name = ["naive", "stable", "tag", "rmsprop"][m] if m < 4 else f"method-{m}"
        for seed in range(seeds):
            matrix = [
                [0.1 + 0.8 * (j <= i) - 0.01 * (m + seed + i - j) for j in range(tasks)] for i in range(tasks + 1)
            ]
            train: dict[str, Any] = {
                "average_accuracy": 0.5 + 0.01 * (m + seed),
                "accuracy": matrix,
                "train_loss": [[1.0, 0.5]] * tasks,
            }
            if tasks > 1:
                train["forgetting"] = 0.01 * (m + seed)
            if name.startswith(("tag", "method")):
                train["alpha"] = [[[1.0 + t + 0.1 * j for j in range(t + 1)]] * 3 for t in range(tasks)]
            spectra = [
                {
                    "task": t + 1,
                    "eigenvalues": [9.0 + t + m, 3.0, -1.0],
                    "relative_residuals": [0.001] * 3,
                    "converged": [t != 1, True, True],
                }
                for t in range(tasks)
            ]
            distances = [float(t) for t in range(tasks)]
            made.append(RunMetrics(name, seed, train, {"tasks": spectra, "distance_from_task_1": distances}))
    return made


@pytest.mark.parametrize(
    ("methods", "seeds", "tasks"), [(1, 1, 2), (2, 1, 1), (4, 3, 5), (12, 1, 20)], ids=lambda value: str(value)
)
def test_every_figure_is_drawn_whatever_the_size(tmp_path: Path, methods: int, seeds: int, tasks: int) -> None:
    draw_all(tables(runs(methods, seeds, tasks)), OPTIONS, tmp_path)
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    without_stable = {"stable_plastic"} if methods == 1 else set()
    without_tag = {"alpha_heat_map", "alpha_over_stream"} if methods < 3 else set()
    assert drawn == set(FIGURES) - without_stable - without_tag


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    made = tables(runs(3, 2, 3))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        draw_all(made, OPTIONS, tmp_path / folder)
    for name in FIGURES:
        assert (tmp_path / "a" / f"{name}.png").read_bytes() == (tmp_path / "b" / f"{name}.png").read_bytes()


def test_missing_tables_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run 'dvc repro summarize'"):
        read_tables(tmp_path)


def test_a_method_has_one_colour_whoever_is_beside_it() -> None:
    assert colour("tag") == colour("tag") != colour("naive")
    assert colour("my-own-method").startswith("#")
