from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pipeline.analysis.agreement import EQUIVALENCE_LEVEL, MARGIN, Row, standing
from pipeline.analysis.intervals import NEAR
from pipeline.figures import published_rows
from pipeline.figures.style import common_look
from tests.analysis.test_agreement import SPREAD, row

ROWS = [
    row(60 + 0.1 * SPREAD, 60 + 0.1 * SPREAD, method="er", planned=3),
    row(61 + SPREAD, 60 + SPREAD, method="tag", planned=5),
    row(66 + 0.1 * SPREAD, 60 + 0.1 * SPREAD, method="ewc", planned=3),
    row([58.0], 60 + SPREAD, method="tag", experiment="two", planned=1),
]


def drawn(rows: list[Row]) -> Figure:
    with common_look():
        return published_rows.draw(rows)


def test_every_row_is_labelled_with_its_name_and_seeds_below_its_experiment() -> None:
    accuracies, _ = drawn(ROWS).axes
    labels = {
        tick.get_text(): place
        for tick, place in zip(accuracies.get_yticklabels(), accuracies.get_yticks(), strict=True)
    }
    assert list(labels) == [
        "ER (er)  3 | 3", "TAG (tag)  3 so far | 3", "EWC (ewc)  3 | 3", "TAG (tag)  1 | 3", "mean of 3 rows",
    ]  # fmt: skip
    headings = {text.get_text(): text.xy[1] for text in accuracies.texts}  # type: ignore[attr-defined]
    assert headings["one"] < labels["ER (er)  3 | 3"] < labels["EWC (ewc)  3 | 3"] < headings["two"]
    assert headings["two"] < labels["TAG (tag)  1 | 3"]


def test_the_published_mean_stands_below_ours_in_each_line_from_top_to_bottom() -> None:
    accuracies, _ = drawn(ROWS).axes
    bottom, top = accuracies.get_ylim()
    assert bottom > top  # the first line is the uppermost
    points = [line for line in accuracies.lines if len(line.get_xdata()) == 1]  # type: ignore[arg-type]
    for ours, published, entry in zip(points[::2], points[1::2], ROWS, strict=True):
        assert ours.get_xdata() == [entry.comparison.ours.mean]
        assert published.get_xdata() == [entry.comparison.row.accuracy.mean]
        assert np.asarray(ours.get_ydata())[0] < np.asarray(published.get_ydata())[0]


def test_differences_have_both_intervals_and_the_look_of_where_they_stand() -> None:
    accuracies, differences = drawn(ROWS).axes
    standings = [standing(entry.comparison) for entry in ROWS]
    assert standings == ["shown equal", "not shown different", "different", "no interval"]
    looks = [published_rows.LOOKS[standing(entry.comparison)] for entry in ROWS]
    assert len(set(looks)) == 4
    places = dict(zip(accuracies.get_yticks(), [*ROWS, None], strict=True))
    points = [line for line in differences.lines if len(line.get_xdata()) == 1]  # type: ignore[arg-type]
    for line, entry, look in zip(points, ROWS, looks, strict=False):
        assert (line.get_color(), line.get_marker()) == look
        assert line.get_xdata() == [entry.comparison.difference.mean]
        assert places[np.asarray(line.get_ydata())[0]] is entry
    of_first = [list(np.asarray(line.get_xdata())) for line in differences.lines[:3]]
    d = ROWS[0].comparison.difference
    assert of_first[0] == [d.low, d.high]
    assert d.low is not None and d.low < of_first[2][0] < 0, f"the {EQUIVALENCE_LEVEL} interval is the shorter one"


def test_a_row_that_is_not_reproduced_says_so_at_its_end() -> None:
    accuracies, differences = drawn(ROWS).axes
    written = {text.xy[1]: text.get_text() for text in differences.texts}  # type: ignore[attr-defined]
    places = accuracies.get_yticks()
    assert written == {places[2]: "higher", places[3]: "lower"}


def test_an_interval_that_is_very_wide_is_cut_off_and_marked() -> None:
    wide = row(60 + 20 * SPREAD, 60 + SPREAD, method="agem", planned=3)
    low, high = wide.comparison.difference.low, wide.comparison.difference.high
    assert low is not None and high is not None and high > published_rows.REACH > -published_rows.REACH > low
    _, differences = drawn([*ROWS, wide]).axes
    assert differences.get_xlim() == (-published_rows.REACH, published_rows.REACH)
    marks = {
        (line.get_marker(), float(np.asarray(line.get_xdata())[0]))
        for line in differences.lines
        if line.get_marker() in {"<", ">"}
    }
    assert {("<", -published_rows.REACH), (">", published_rows.REACH)} <= marks
    assert "goes on" in differences.get_xlabel()
    _, differences = drawn(ROWS[:1]).axes
    assert "goes on" not in differences.get_xlabel()


def test_margins_are_shown_and_explained() -> None:
    _, differences = drawn(ROWS).axes
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in differences.patches]  # type: ignore[attr-defined]
    assert spans == [(-MARGIN, MARGIN), (-NEAR, NEAR)]
    legend = differences.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        *published_rows.LOOKS,
        "±1.5: reproduced",
        "±3 points: equal",
    ]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first.png", "again.png"):
        with common_look():
            published_rows.draw(ROWS[:2]).savefig(tmp_path / name, dpi=60)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_rows_with_one_seed_alone_have_no_mean_line() -> None:
    accuracies, _ = drawn(ROWS[3:]).axes
    assert [tick.get_text() for tick in accuracies.get_yticklabels()] == ["TAG (tag)  1 | 3"]
