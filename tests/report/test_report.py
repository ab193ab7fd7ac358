from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.analysis.intervals import estimate
from pipeline.analysis.published import read_published
from pipeline.config import Configuration, RunPlan, resolve_run
from pipeline.report.report import report
from pipeline.report.writing import CAPTIONS, Section, Table, as_html, as_markdown, markdown_table
from tests.configuration import project
from tests.conftest import ROOT

PUBLISHED = read_published(ROOT / "published.csv")
PROJECT = project()


def plans(benchmark: str, *methods: str) -> dict[str, RunPlan]:
    params = PROJECT.params.model_copy(update={"benchmark": benchmark})
    configuration = Configuration(params, PROJECT.benchmarks, PROJECT.methods)
    return {method: resolve_run(configuration, method) for method in methods}


def runs(**accuracy: dict[int, float]) -> dict[str, pd.DataFrame]:
    """{method: {seed: average accuracy}}."""
    rows = [
        {"method": method, "seed": seed, "average_accuracy": value, "forgetting": 0.1}
        for method, by_seed in accuracy.items()
        for seed, value in by_seed.items()
    ]
    empty = {name: pd.DataFrame() for name in ("prediction", "line", "eigenvalues")}
    return {"runs": pd.DataFrame(rows), **empty}


def sections(
    tables: dict[str, pd.DataFrame],
    methods: dict[str, RunPlan],
    benchmark: str = "split-cifar100",
    seeds: int = 3,
    **more: int,
) -> dict[str, Section]:
    """more: of the methods that are to have another number of seeds."""
    data = {
        "benchmark": benchmark,
        "tasks": 20,
        "datasets": ["cifar100"],
        "evaluation": "test",
        "stream": {"name": "split", "tasks": 20, "order": "labelled", "seed": 0},
    }
    options = {"reference": "naive", "seeds": {**dict.fromkeys(methods, seeds), **more}, "here": True}
    made = report(tables, methods, data, PUBLISHED, options, ["average_accuracy", "contact_sheet"])
    return {section.title: section for section in made}


def row(section: Section, name: str) -> list[str]:
    assert section.table is not None
    return next(list(cells) for cells in section.table.rows if cells[0] == name)


NAIVE = {1: 0.50, 2: 0.52, 3: 0.54}


def test_a_method_has_mean_deviation_interval_and_difference_by_seed() -> None:
    tables = runs(naive=NAIVE, tag={1: 0.61, 2: 0.62, 3: 0.63})
    methods = sections(tables, plans("split-cifar100", "naive", "tag"))["Methods"]
    interval = estimate([61.0, 62.0, 63.0])
    assert row(methods, "tag")[:3] == ["tag", "3", f"62.0 ± 1.0 [{interval.low:.1f}, {interval.high:.1f}]"]
    assert row(methods, "tag")[-1] == "+10.0 [+7.5, +12.5]"
    assert row(methods, "naive")[-1] == "the reference"


@pytest.mark.parametrize(
    ("evaluation", "judged"), [("test", "the test images"), ("validation", "held-out training images")]
)
def test_what_was_run_tells_on_which_images_and_where_they_are_from(evaluation: str, judged: str) -> None:
    data: dict[str, Any] = {
        "benchmark": "mine", "tasks": 2, "datasets": ["digits", {"path": "birds"}], "evaluation": evaluation,
        "stream": {"name": "split", "tasks": 2}, "sources": {"birds": "your own, 4 images", "digits": "a copy"},
    }  # fmt: skip
    options = {"reference": "naive", "seeds": {"naive": 3}, "here": True}
    first, *others = report(runs(naive=NAIVE), plans("split-cifar100", "naive"), data, PUBLISHED, options, [])
    assert first.text[0] == f"Benchmark mine: 2 tasks of digits, birds, a split stream (tasks 2), judged on {judged}."
    assert first.text[1] == "Images of birds: your own, 4 images."  # nobody has published them
    assert first.text[2].startswith("Images of digits: a copy. No checksum is known")
    assert first.text[3] == f"Seeds 1, 2, 3. {platform.machine()}, {platform.system()}."
    assert first.text[4].startswith("Packages: torch ")
    assert others[-1].title == "Figures"


def test_the_settings_are_those_of_the_plan_and_say_how_long_it_trains() -> None:
    made = sections(runs(naive=NAIVE), plans("split-cifar100", "naive"))["Settings"]
    assert row(made, "naive")[1:3] == ["sgd, lr 0.1, momentum 0.0", "naive"]
    assert row(made, "naive")[4] == "batch_size 10, epochs 1, evaluate next"


def test_the_classes_that_runs_drew_are_told_by_seed() -> None:
    tables, methods = runs(naive=NAIVE), plans("split-cifar100", "naive")
    assert "Classes of the tasks" not in sections(tables, methods)
    data = {
        "benchmark": "split-cifar100", "tasks": 2, "datasets": ["cifar100"], "evaluation": "test",
        "stream": {"name": "split", "tasks": 2, "first_class": 3, "last_class": 6, "order": "run", "seed": 0},
        "drawn": {1: [[3, 5], [4, 6]], 2: [[4, 5], [3, 6]]},
    }  # fmt: skip
    options = {"reference": "naive", "seeds": {"naive": 3}, "here": True}
    for drawn in (["contact_sheet"], []):
        made = {section.title: section for section in report(tables, methods, data, PUBLISHED, options, drawn)}
        told = made["Classes of the tasks"]
        assert told.table is not None
        assert [*told.table.headings] == ["task", "seed 1", "seed 2"]
        assert [[*cells] for cells in told.table.rows] == [["1", "3, 5", "4, 5"], ["2", "4, 6", "3, 6"]]
        assert ("The contact sheet shows the tasks of seed 1." in told.text[0]) == bool(drawn)
    assert "first_class 3, last_class 6, order run" in made["What was run"].text[0]


def test_one_seed_says_so_and_a_missing_run_is_missing_not_zero() -> None:
    tables = runs(naive=NAIVE, tag={3: 0.62})
    methods = sections(tables, plans("split-cifar100", "naive", "tag", "er"))["Methods"]
    assert row(methods, "tag") == ["tag", "1 of 3", "62.0 (one seed)", "10.0 (one seed)", "+8.0 (one seed)"]
    assert row(methods, "er") == ["er", "missing", "missing", "missing", "missing"]
    more = sections(tables, plans("split-cifar100", "naive", "tag"), tag=5)["Methods"]
    assert (row(more, "tag")[1], row(more, "naive")[1]) == ("1 of 5", "3")
    apart = sections(runs(naive=NAIVE, tag={7: 0.62}), plans("split-cifar100", "naive", "tag"))["Methods"]
    assert row(apart, "tag")[-1] == "no seed in common"
    fewer = sections(runs(naive=NAIVE, tag={1: 0.6, 2: 0.63, 9: 0.7}), plans("split-cifar100", "naive", "tag"))[
        "Methods"
    ]
    assert row(fewer, "tag")[-1].endswith("on 2 seeds")


def test_a_metric_of_fewer_seeds_says_of_how_many() -> None:
    tables = runs(naive=NAIVE)
    tables["runs"]["forgetting"] = [0.1, None, 0.3]
    made = sections(tables, plans("split-cifar100", "naive"))["Methods"]
    assert row(made, "naive")[3].startswith("20.0 ± 14.1 [") and row(made, "naive")[3].endswith("] on 2 seeds")


def test_without_the_reference_nothing_is_compared() -> None:
    methods = sections(runs(tag={1: 0.62}), plans("split-cifar100", "tag"), seeds=1)["Methods"]
    assert methods.table is not None
    assert list(methods.table.headings) == ["method", "seeds", "average accuracy (%)", "forgetting (points)"]


def test_ours_stands_beside_the_published_with_a_verdict() -> None:
    tables = runs(naive=NAIVE, tag={1: 0.627, 2: 0.628, 3: 0.629}, stable={1: 0.70, 2: 0.70, 3: 0.71})
    made = sections(tables, plans("split-cifar100", "naive", "tag", "stable"))
    beside = made["Beside the published"]
    assert row(beside, "tag")[1] == "TAG-RMSProp"
    assert row(beside, "tag")[5] == "reproduced"
    assert row(beside, "tag")[6].endswith("9.8 ± 1.4 [8.1, 11.5]")
    assert row(beside, "tag")[-1] == "none known to differ"
    assert row(beside, "stable")[5] == "higher"
    assert row(beside, "naive")[3] == "51.4 ± 3.6 [46.9, 55.8]"  # published: 51.358, deviation 3.2135 with divisor 5
    assert "Beside the published" not in sections(tables, plans("split-cifar10", "naive"), "split-cifar10")


def test_how_a_paper_counts_forgetting_is_told() -> None:
    for benchmark, told in (
        ("split-cifar100", "the last included."),
        ("split-cifar100-chaudhry", "the last left out."),
    ):
        beside = sections(runs(naive=NAIVE), plans(benchmark, "naive"), benchmark)["Beside the published"]
        assert beside.text[0].endswith(told)


def test_the_pages_hold_every_section_and_the_html_needs_no_other_file(tmp_path: Path) -> None:
    tables = runs(naive=NAIVE, tag={1: 0.61, 2: 0.62, 3: 0.63})
    made = list(sections(tables, plans("split-cifar100", "naive", "tag")).values())
    for name in ("average_accuracy", "contact_sheet"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    page, text = as_html("a <b> & c", made, tmp_path), as_markdown("title", made)
    for section in made:
        assert f"<h2>{section.title}</h2>" in page
        assert f"## {section.title}" in text
    assert page.count('src="data:image/png;base64,') == 2
    assert not re.search(r"(src|href)=.?https?:", page)
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in page
    assert "![" + CAPTIONS["contact_sheet"] + "](contact_sheet.png)" in text
    assert as_html("x", made, tmp_path) == as_html("x", made, tmp_path)


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert markdown_table(Table(["a"], [["x | y"]])).splitlines()[-1] == "| x \\| y |"


def test_every_figure_has_a_caption() -> None:
    from pipeline.figures import FIGURES

    assert set(CAPTIONS) == set(FIGURES) | {"contact_sheet"}


def test_numbers_are_finite_in_what_is_shown() -> None:
    tables = runs(naive=NAIVE)
    tables["runs"]["largest_eigenvalue"] = np.nan
    methods = sections(tables, plans("split-cifar100", "naive"))["Methods"]
    assert "nan" not in " ".join(row(methods, "naive"))


def test_what_the_eigenvalues_are_of_is_told_with_how_many_did_not_converge() -> None:
    spectrum = pd.DataFrame(
        {"matrix": "gauss-newton", "images": "train", "examples": [50, 60, 60], "converged": [True, False, True]}
    )
    made = sections(runs(naive={1: 0.5}) | {"eigenvalues": spectrum}, plans("split-cifar100", "naive"), seeds=1)
    assert made["What was run"].text[-1] == (
        "Eigenvalues: of the Gauss-Newton matrix of each task's mean cross-entropy (nats) over 50 to 60 of its train "
        "images; 1 of 3 did not reach the tolerance."
    )


def test_what_curvature_predicted_is_told_in_numbers() -> None:
    """Ten pairs of three runs each, which the model orders perfectly and the bound the wrong way round."""
    pairs = [
        {
            "method": "naive", "seed": seed, "task": 1, "tasks_learnt": later, "gradient_term": 0.0,
            "quadratic_term": 0.1 * later + 0.01 * seed, "predicted_rise": 0.1 * later + 0.01 * seed,
            "bound": 100.0 - later - 0.1 * seed, "rise": 0.12 * later + 0.012 * seed, "barrier": 0.0 if later < 9 else 0.5,
        }
        for seed in (1, 2, 3)
        for later in range(2, 12)
    ]  # fmt: skip
    points = [
        {
            **{key: pair[key] for key in ("method", "seed", "task", "tasks_learnt")},
            "position": u,
            "loss": 1 + u,
            "model": 1 + m,
        }
        for pair in pairs
        for u, m in ((0.0, 0.0), (0.5, 0.5), (1.0, 3.0))
    ]
    tables = runs(naive=NAIVE) | {"prediction": pd.DataFrame(pairs), "line": pd.DataFrame(points)}
    text = " ".join(sections(tables, plans("split-cifar100", "naive"))["Curvature and forgetting"].text)
    assert "Of 30 pairs of a task and a later one" in text
    assert "rank correlation of 1.00, its quadratic term alone with one of 1.00" in text
    assert "with one of -1.00 (" in text
    assert "within half of the rise for 30 of 30 pairs" in text
    assert "over 50 % of the way" in text
    assert "For 21 of 30 pairs" in text
    repeated = {name: pd.concat([tables[name], tables[name].assign(method="copy")]) for name in ("prediction", "line")}
    again = " ".join(sections(tables | repeated, plans("split-cifar100", "naive"))["Curvature and forgetting"].text)
    bounds = tables["prediction"]["bound"]
    fewer = {"prediction": tables["prediction"].assign(bound=bounds.where(tables["prediction"]["tasks_learnt"] > 4))}
    told = " ".join(sections(tables | fewer, plans("split-cifar100", "naive"))["Curvature and forgetting"].text)
    assert "the median bound 91.8. 9 pairs have no bound: all eigenvalues found of the task are negative." in told
    assert "with one of -1.00 (" in told
    assert again == f"{text} copy repeats the weights of another method and is not counted."
