"""docs/reproductions.md, its picture, and the verdict over all rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.analysis.agreement import Row
from pipeline.analysis.intervals import Estimate, estimate
from pipeline.analysis.published import published_row, read_published
from pipeline.experiments import document
from pipeline.experiments.command import outcomes
from pipeline.experiments.document import BEGIN, DOCUMENT, END, overall, renew_document
from pipeline.experiments.experiments import configured, plans, read_experiments
from pipeline.experiments.report import published_rows
from pipeline.experiments.together import PICTURE, Outcome, counted, fingerprint, judged, outcome, without_runs
from pipeline.support.errors import UserError
from tests.analysis.test_agreement import SPREAD, row
from tests.configuration import project
from tests.paths import ROOT

EXPERIMENTS = read_experiments(ROOT)
BASE = project()
RENEW = "run 'tag-pipeline reproduce --report'"


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def committed() -> list[Outcome]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return outcomes(EXPERIMENTS, BASE)


def made(name: str, rows: Sequence[Row]) -> Outcome:
    """An outcome of an experiment of the project with made-up comparisons."""
    methods = plans(configured(BASE, name, EXPERIMENTS[name]))[1]
    return Outcome(
        name, EXPERIMENTS[name], methods, {}, None, {entry.comparison.method: entry.comparison for entry in rows}
    )


def table(text: str) -> list[list[str]]:
    """The cells of a Markdown table's body."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def test_the_document_is_what_the_records_give(committed: list[Outcome]) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == overall(committed), RENEW


def test_the_picture_is_of_the_rows_of_the_document(committed: list[Outcome]) -> None:
    with Image.open(DOCUMENT.parent / PICTURE) as picture:
        assert picture.text["Rows"] == fingerprint(counted(committed)), RENEW  # type: ignore[attr-defined]


def test_another_result_is_another_picture() -> None:
    rows = [row(60 + SPREAD, 60 + SPREAD, planned=3)]
    others = [row(60.1 + SPREAD, 60 + SPREAD, planned=3)], [row(60 + SPREAD, 60 + SPREAD, planned=4)]
    assert len({fingerprint(rows), *map(fingerprint, others)}) == 3


def test_every_published_row_has_a_verdict_or_a_reason(committed: list[Outcome]) -> None:
    judged_rows, lacking = len(counted(committed)), 0
    for found in committed:
        if found.absent:
            assert found.experiment.missing, f"experiments.yaml: {found.name}: missing: say what its runs lack"
        if found.experiment.paper != "Stable SGD" and found.experiment.as_published:
            rows = published_rows(found.experiment)
            absent = [published_row(rows, found.experiment.benchmark, found.methods[name]) for name in found.absent]
            lacking += sum(row is not None for row in absent)
    assert judged_rows + lacking == len(read_published())
    assert without_runs(committed)[1].startswith(f"{lacking} of {len(read_published())} published rows have no run")


def test_rows_without_a_run_are_named_with_what_they_lack() -> None:
    cub, described = made("tag-split-cub-5-epochs", []), made("tag-split-cifar100-as-described", [])
    _, told, cells = without_runs([cub, described, made("stable-sgd-1-rotated", [])])
    assert told.startswith(
        "7 of 142 published rows"
    )  # those that other settings were run for are counted where they belong
    first, second, third = table(cells)
    assert first[:2] == ["tag-split-cub-5-epochs", "7"]
    assert first[2].startswith("naive (Naive SGD), ewc (EWC), agem (A-GEM), ")
    assert first[3] == cub.experiment.missing
    assert second[2].startswith("ewc, agem, ")
    assert third[3] == "not told"


def test_all_rows_are_judged_together_but_those_with_other_settings() -> None:
    of_cifar = [
        row(60 + 0.1 * SPREAD, 60 + 0.1 * SPREAD, method="er", planned=5),
        row(61 + SPREAD, 60 + SPREAD, method="tag-er", planned=3),
        row(66 + 0.1 * SPREAD, 60 + 0.1 * SPREAD, method="er-2", planned=3),
        row([58.0], 60 + SPREAD, method="tag", planned=5),
    ]
    apart = row(90 + SPREAD, 60 + SPREAD, method="ewc")
    found = [made("tag-split-cifar100", of_cifar), made("tag-split-cifar100-as-described", [apart])]
    title, first, verdict, mean, picture, _, equivalence, cells = judged(found)
    assert title == "### All rows together"
    assert first.startswith("Of 142 published rows 4 have runs here, 2 of them so far with fewer seeds than planned.")
    assert "tag-split-cifar100-as-described has other settings on purpose and is not counted" in first
    assert verdict.startswith(
        "**In average accuracy, ours differ from the published over all rows more than seeds do.**"
    )
    assert "over the 3 rows with two seeds or more" in verdict
    assert "chi-squared with 3 degrees of freedom" in verdict
    assert "which makes 6.0 for the sum" in verdict
    assert re.match(
        r"\*\*The mean of d is \+2\.3 \[\+\d\.\d, \+\d\.\d\] points\*\*: its 95 % interval leaves 0 out\.", mean
    )
    assert PICTURE in picture
    assert equivalence.endswith(
        "1 are shown equal, 1 not shown different, 1 different, and 1 cannot be told: one seed, or no published deviation."
    )
    assert [entry[0] for entry in table(cells)] == ["er (ER)", "tag-er (TAG-ER)", "er-2 (ER-2)", "tag (TAG)"]
    assert table(cells)[0] == ["er (ER)", "tag-split-cifar100", "3 of 5", "+0.0", "[-0.3, +0.3]", "shown equal so far"]
    assert table(cells)[3][2:] == ["1 of 5", "-2.0", "", "no interval so far"]


def test_rows_that_differ_by_chance_alone_pass() -> None:
    found = judged([made("tag-split-cifar100", [row(60.5 + SPREAD, 60 + SPREAD, method="er", planned=3)])])
    assert found[2].startswith(
        "**In average accuracy, ours differ from the published over all rows no more than seeds do.**"
    )
    assert "interval holds 0" in found[3]


def test_other_measures_are_judged_beside() -> None:
    """They say where most of a difference is."""
    near, far = (estimate([*(value + 0.1 * SPREAD)]) for value in (60, 66))

    def with_measures(method: str, forgetting: Estimate | None, learning: Estimate) -> Row:
        made_up = row(60 + SPREAD, 60 + SPREAD, method=method, planned=3)
        beside = replace(made_up.comparison.row, forgetting=near, learning_accuracy=near)
        comparison = replace(made_up.comparison, row=beside, forgetting=forgetting, learning_accuracy=learning)
        return replace(made_up, comparison=comparison)

    one = made("tag-split-cifar100", [with_measures("er", near, near), with_measures("tag", None, near)])
    two = made("tag-split-miniimagenet", [with_measures("er", near, far)])
    (told,) = [text for text in judged([one, two]) if text.startswith("By the same sum")]
    assert "Forgetting differs no more than seeds do, 0.0 over 2 rows (p = 1.00, ours +0.0 points on average)." in told
    assert re.search(
        r"Learning accuracy differs more than seeds do, \d+\.\d over 3 rows \(p = \d.*?, ours \+2\.0 points", told
    )
    assert re.search(r"Most of it is tag-split-miniimagenet, .* over 1 row .*, ours \+6\.0 points", told)
    assert "; without it 0.0 over 2 rows (p = 1.00, ours +0.0 points on average)." in told
    assert not [
        text
        for text in judged([made("tag-split-cifar100", [row(60 + SPREAD, 60 + SPREAD, method="er")])])
        if "same sum" in text
    ]


@pytest.mark.parametrize("ours", [60 + SPREAD, [58.0]])
def test_the_document_and_its_picture_are_renewed_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: Sequence[float]
) -> None:
    place = tmp_path / "reproductions.md"
    place.write_text(f"# Rerun\n{BEGIN}\nold\n{END}\n", encoding="utf-8")
    monkeypatch.setattr(document, "DOCUMENT", place)
    rows = [row(ours, 60 + SPREAD, method="er", planned=5, experiment="tag-split-cifar100")]
    written = []
    for _ in range(2):
        renew_document([made("tag-split-cifar100", rows)])
        written.append((place.read_bytes(), (tmp_path / PICTURE).read_bytes()))
    assert written[0] == written[1]
    assert f"| er (ER) | tag-split-cifar100 | {len(ours)} of 5 |" in place.read_text(encoding="utf-8")
    with Image.open(tmp_path / PICTURE) as picture:
        assert picture.text["Rows"] == fingerprint(rows)  # type: ignore[attr-defined]


def test_without_any_published_row_there_is_neither_verdict_nor_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "reproductions.md"
    place.write_text(f"# Rerun\n{BEGIN}\nold\n{END}\n", encoding="utf-8")
    picture = tmp_path / PICTURE
    picture.parent.mkdir()
    picture.write_bytes(b"of earlier rows")
    monkeypatch.setattr(document, "DOCUMENT", place)
    renew_document([made("stable-sgd-1-rotated", [])])
    assert "All rows together" not in place.read_text(encoding="utf-8")
    assert not picture.exists()


def test_an_experiment_of_one_task_has_no_forgetting_to_tell() -> None:
    experiment = EXPERIMENTS["stable-sgd-1-rotated"]
    methods = plans(configured(BASE, "stable-sgd-1-rotated", experiment))[1]
    train = {"accuracy": [[0.1], [0.9]], "average_accuracy": 0.9, "learning_accuracy": 0.9, "test_loss": [[2.3], [0.3]]}
    records = {("stable", 1): {"method": "stable", "seed": 1, **train, "train_loss": [[1.0, 0.5]]}}
    found = outcome("stable-sgd-1-rotated", experiment, records, methods)
    assert "| stable | 1 of 3 | 90.0 | | 90.0 |" in overall([found])


def test_without_its_marks_the_document_and_the_picture_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "reproductions.md"
    place.write_text("# Rerun\n", encoding="utf-8")
    monkeypatch.setattr(document, "DOCUMENT", place)
    with pytest.raises(UserError, match="the marks"):
        renew_document([made("tag-split-cifar100", [row(60 + SPREAD, 60 + SPREAD, method="er")])])
    assert [path.name for path in tmp_path.iterdir()] == ["reproductions.md"]
    assert place.read_text(encoding="utf-8") == "# Rerun\n"
