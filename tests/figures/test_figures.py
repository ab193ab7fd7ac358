from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb
from PIL import Image

from pipeline.analysis.runs import RunMetrics
from pipeline.analysis.tables import tables
from pipeline.config.sections import Figures
from pipeline.figures import (
    FIGURES,
    average_accuracy,
    contact_sheet,
    draw,
    draw_all,
    eigenvalues,
    eigenvalues_of_layers,
    predicted_forgetting,
    read_tables,
    stable_plastic,
)
from pipeline.figures.style import colour, family, look, without_repeats
from pipeline.support.errors import UserError

OPTIONS = Figures(dpi=60, vector_formats=[], stable="stable", plastic="naive", reference="naive")


EXTRAS: dict[str, Any] = {
    "density": {"nodes": [[-1.0, 0.0, 9.0]], "weights": [[0.1, 0.8, 0.1]]},
    "density_moments": {"trace": 5.0, "frobenius": 9.0, "products": 3},
    "moments": {"trace": 6.0, "trace_error": 1.0, "frobenius": 9.5, "frobenius_error": 0.5, "products": 3},
    "blocks": [
        {
            "layer": name, "parameters": 7, "eigenvalue": value, "relative_residual": 1e-4, "converged": True,
            "products": 9,
        }
        for name, value in (("layers.linear1", 4.0), ("layers.linear2", 2.5))
    ],
}  # fmt: skip


def runs(methods: int, seeds: int, tasks: int, extras: bool = True) -> list[RunMetrics]:
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
                "test_loss": [[1.0] * tasks] * (tasks + 1),
                "train_loss": [[1.0, 0.5]] * tasks,
            }
            if tasks > 1:
                train["forgetting"] = 0.01 * (m + seed)
            if name.startswith(("tag", "method")):
                train["alpha"] = [[[1.0 + t + 0.1 * j for j in range(t + 1)]] * 3 for t in range(tasks)]
            spectra: list[dict[str, Any]] = [
                {
                    "task": t + 1,
                    "eigenvalues": [9.0 + t + m, 3.0, -1.0],
                    "relative_residuals": [0.001] * 3,
                    "converged": [t != 1, True, True],
                    "examples": 60,
                    "movement": [
                        {
                            "task": later + 1,
                            "distance": 1.0 + later,
                            "overlap": 0.01,
                            "lambda_distance_squared": 1.0 + later,
                            "gradient_term": -0.01 * m,
                            "quadratic_term": 0.1 * later + 0.01 * seed,
                            "line_loss": [0.5 + 0.01 * later * point for point in range(11)],
                            "line_accuracy": [0.9 - 0.01 * point for point in range(11)],
                        }
                        for later in range(t + 1, tasks)
                    ],
                }
                | (EXTRAS if extras else {})
                for t in range(tasks)
            ]
            distances = [float(t) for t in range(tasks)]
            made.append(
                RunMetrics(name, seed, train, {"images": "test", "tasks": spectra, "distance_from_task_1": distances})
            )
    return made


def first_images(tasks: int) -> tuple[np.ndarray, list[str]]:
    return np.random.default_rng(0).integers(0, 256, (tasks, 10, 9, 8), np.uint8), ["a long name " * 9] * tasks


@pytest.mark.parametrize(
    ("methods", "seeds", "tasks"),
    [(1, 1, 2), (2, 1, 1), (12, 2, 2), (3, 1, 20)],
    ids=lambda value: str(value),
)
def test_every_figure_is_drawn_whatever_the_size(tmp_path: Path, methods: int, seeds: int, tasks: int) -> None:
    draw_all(tables(runs(methods, seeds, tasks)), OPTIONS, tmp_path, first_images(tasks))
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    without_stable = {"stable_plastic"} if methods == 1 else set()
    without_stable |= {"paired_differences"} if methods == 1 else set()
    without_tag = {"alpha_heat_map", "alpha_over_stream"} if methods < 3 else set()
    without_later = {"forgetting_and_curvature", "predicted_forgetting", "loss_along_line"} if tasks == 1 else set()
    assert drawn == (set(FIGURES) | {"contact_sheet"}) - without_stable - without_tag - without_later


def test_what_was_not_computed_is_not_drawn(tmp_path: Path) -> None:
    draw_all(tables(runs(2, 1, 2, extras=False)), OPTIONS, tmp_path, first_images(2))
    assert not (tmp_path / "spectral_density.png").exists()
    assert not (tmp_path / "eigenvalues_of_layers.png").exists()


def test_runs_without_eigenspectra_have_the_other_figures(tmp_path: Path) -> None:
    made = [RunMetrics(run.method, run.seed, run.train, None) for run in runs(3, 2, 3)]
    assert set(draw_all(tables(made), OPTIONS, tmp_path, None)) == set(FIGURES) - {
        "eigenvalues", "eigenvalues_of_layers", "forgetting_and_curvature", "loss_along_line", "predicted_forgetting",
        "spectral_density", "stable_plastic",
    }  # fmt: skip


def test_figures_have_the_resolution_of_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "FIGURES", {"average_accuracy": FIGURES["average_accuracy"]})
    widths = []
    for dpi in (40, 80):
        draw_all(tables(runs(1, 1, 2)), OPTIONS.model_copy(update={"dpi": dpi}), tmp_path, None)
        with Image.open(tmp_path / "average_accuracy.png") as picture:
            widths.append(picture.width)
    assert widths[1] == pytest.approx(2 * widths[0], abs=1)


#: Figures of lines, of points with error bars, and of images; the rest has nothing else.
KINDS = ("accuracy_matrix", "average_accuracy", "accuracy_and_forgetting", "spectral_density")


def test_the_same_tables_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In all formats. That all PNG files of two runs are the same is told by tests/parallel/test_side_by_side.py."""
    monkeypatch.setattr(draw, "FIGURES", {name: FIGURES[name] for name in KINDS})
    made = tables(runs(3, 1, 2))
    options = OPTIONS.model_copy(update={"vector_formats": ["svg", "pdf"]})
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        assert draw_all(made, options, tmp_path / folder, first_images(2)) == [*KINDS, "contact_sheet"]
    for name in (*KINDS, "contact_sheet"):
        for kind in ("png", "svg", "pdf"):
            first, again = (tmp_path / folder / f"{name}.{kind}" for folder in ("a", "b"))
            assert first.read_bytes() == again.read_bytes()


def test_the_largest_eigenvalue_is_drawn_with_its_sign_and_named_after_its_matrix() -> None:
    made = tables(runs(1, 1, 3))
    spectrum = made["eigenvalues"].assign(matrix="fisher")
    spectrum["eigenvalue"] = spectrum["rank"].map({1: -9.0, 2: 3.0, 3: -1.0})
    figure = eigenvalues.draw(made | {"eigenvalues": spectrum}, OPTIONS)
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_ylabel() == "largest Fisher eigenvalue"
    assert all((np.asarray(line.get_ydata()) == 3).all() for line in axes.get_lines())


@pytest.mark.parametrize("figure", [eigenvalues, eigenvalues_of_layers, stable_plastic], ids=lambda m: m.__name__)
def test_what_did_not_converge_has_a_cross(figure: ModuleType) -> None:
    made = tables(runs(2, 1, 3))
    for converged in (True, False):
        changed = {name: made[name].assign(converged=converged) for name in ("eigenvalues", "layers")}
        drawn = figure.draw(made | changed, OPTIONS)
        marked = [line for axes in drawn.axes for line in axes.get_lines() if line.get_marker() == "x"]
        assert bool(marked) != converged


def test_missing_tables_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run 'dvc repro summarize'"):
        read_tables(tmp_path)


def test_a_method_has_one_colour_whoever_is_beside_it() -> None:
    """One that has none of its own takes it from the palette by its name, in every process the same."""
    wanted = {"tag": "#D55E00", "naive": "#7F7F7F", "my-own-method": "#44AA99", "mine": "#DDCC77"}
    assert {method: colour(method) for method in wanted} == wanted


def test_variants_have_shades_of_their_familys_colour() -> None:
    of = {
        "agem-13-all": "agem",
        "tag-er": "tag",
        "online-ewc": "ewc",
        "multitask-passes": "multitask",
        "stable-agem": "stable-agem",
    }
    assert {method: family(method) for method in of} == of
    assert family("gem") == "gem" and family("tagged") == "tagged", "whole words only"
    sizes = [colour(f"er-{size}") for size in (1, 2, 3, 5, 10)]
    lightness = [sum(to_rgb(shade)) for shade in sizes]
    assert lightness == sorted(lightness, reverse=True) and len(set(sizes)) == 5
    hues = [rgb_to_hsv(to_rgb(shade))[0] for shade in [colour("er"), *sizes]]
    assert np.ptp(hues) < 0.02


def test_of_many_methods_every_family_has_a_panel_and_the_reference_is_in_all() -> None:
    names = ["naive", "gem", "si", "mas", "lwf", "tag", "tag-er", "er", "er-2", "er-3", "multitask", "ewc"]
    assert average_accuracy.families(names) == [
        ["naive", "gem", "si", "mas", "lwf", "multitask", "ewc"], ["tag", "tag-er"], ["er", "er-2", "er-3"],
    ]  # fmt: skip
    course = pd.DataFrame(
        [(name, seed, learnt, 0.5) for name in names for seed in (1, 2) for learnt in (1, 2)],
        columns=["method", "seed", "tasks_learnt", "average_accuracy"],
    )
    figure = average_accuracy.draw({"average_accuracy": course}, OPTIONS)
    drawn = [[line.get_label() for line in axes.get_lines()] for axes in figure.axes]
    assert drawn == [[*names[:5], "multitask", "ewc"], ["naive", "tag", "tag-er"], ["naive", "er", "er-2", "er-3"]]


def test_lines_that_would_cover_each_other_are_one_with_both_names() -> None:
    table = pd.DataFrame(
        [(method, task, value) for method, value in (("a", 1.0), ("b", 2.0), ("c", 1.0)) for task in (1, 2)],
        columns=["method", "task", "value"],
    )
    assert without_repeats(table, ["task", "value"]) == {"a": "a = c", "b": "b"}
    assert list(without_repeats(table.assign(value=[1, 2, 3, 4, 5, 6]), ["task", "value"])) == ["a", "b", "c"]


def test_the_line_of_equality_goes_through_both_panels() -> None:
    figure = predicted_forgetting.draw(tables(runs(2, 2, 4)), OPTIONS)
    assert figure is not None
    for axes in figure.axes[:2]:
        line = axes.get_lines()[-1]
        across, up = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert across.tolist() == up.tolist() == [max(axes.get_xlim()[0], axes.get_ylim()[0]), axes.get_ylim()[1]]
        assert across[1] <= axes.get_xlim()[1]


@pytest.mark.parametrize("shape", [(3, 10, 32, 32), (20, 10, 8, 8), (25, 4, 20, 60, 3), (1, 1, 5, 5)])
def test_a_contact_sheet_shows_every_task_on_the_page(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    figure = contact_sheet.draw(images, [f"task {number}" for number in range(shape[0])])
    assert len(figure.axes) == shape[0]
    width, height = shape[2] and shape[3], shape[2]
    for axes in figure.axes:
        left, bottom, across, down = axes.get_position().bounds
        assert left >= 0 and bottom >= -1e-9
        assert left + across <= 1 + 1e-9 and bottom + down <= 1 + 1e-9
    inches = figure.get_size_inches()
    across, down = figure.axes[0].get_position().size * inches
    assert across / down == pytest.approx(shape[1] * width / height, rel=0.02)


def test_a_contact_sheet_of_many_tasks_can_be_read() -> None:
    images = np.zeros((300, 10, 8, 8), np.uint8)
    figure = contact_sheet.draw(images, [f"classes {number}" for number in range(300)])
    assert len(figure.axes) == contact_sheet.MOST
    assert figure.axes[0].get_position().width * figure.get_size_inches()[0] > 1.5
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[12] == "13: classes 12"
    assert titles[-1] == "90: classes 89 (+210)"


def test_forty_methods_have_forty_looks() -> None:
    """Colours are by name, and there are fewer of them."""
    methods = [f"method-{number}" for number in range(40)]
    looks = [look(method, methods) for method in methods]
    assert len({(one["marker"], one["linestyle"]) for one in looks}) == len(methods)


def test_a_strip_puts_images_beside_each_other() -> None:
    strip = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert contact_sheet._side_by_side(strip).tolist() == [[0, 1, 255, 4, 5, 255, 8, 9], [2, 3, 255, 6, 7, 255, 10, 11]]
