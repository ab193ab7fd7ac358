import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D
from scipy import stats

from pipeline.config.sections import Figures
from pipeline.figures import paired_differences

OPTIONS = Figures(dpi=60, vector_formats=[], stable="a", plastic="b", reference="naive")


def places(line: Line2D) -> list[float]:
    return [float(x) for x in np.asarray(line.get_xdata())]


def runs(accuracies: dict[str, dict[int, float]]) -> dict[str, pd.DataFrame]:
    rows = [
        {"method": method, "seed": seed, "average_accuracy": value, "forgetting": 1 - value}
        for method, of_seed in accuracies.items()
        for seed, value in of_seed.items()
    ]
    return {"runs": pd.DataFrame(rows)}


def test_dots_means_and_intervals_are_those_of_the_seeds_that_both_have() -> None:
    ours, theirs = {1: 0.61, 2: 0.66, 3: 0.63, 4: 0.1}, {1: 0.5, 2: 0.52, 3: 0.51}
    figure = paired_differences.draw(runs({"naive": theirs, "tag": ours, "alone": {9: 0.3}}), OPTIONS)
    assert figure is not None
    differences = 100 * np.array([ours[seed] - theirs[seed] for seed in theirs])
    interval = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    for axes, sign in zip(figure.axes, (1, -1), strict=True):
        zero, bar, dots, mean = axes.lines
        assert places(zero) == [0, 0]
        assert places(dots) == pytest.approx(sign * differences)
        assert sorted(places(bar)) == pytest.approx(sorted(sign * end for end in interval))
        assert places(mean) == pytest.approx([sign * differences.mean()])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["tag (3)"]
    assert figure.axes[0].get_xlabel() == "average accuracy less that of naive (points)"


def test_a_single_seed_has_no_interval() -> None:
    figure = paired_differences.draw(runs({"naive": {1: 0.5}, "tag": {1: 0.75}}), OPTIONS)
    assert figure is not None
    assert [places(line) for line in figure.axes[0].lines] == [[0, 0], [25]]
    assert figure.axes[0].lines[1].get_markerfacecolor() == "white"  # beside intervals it would look the most precise


def test_without_the_reference_or_a_common_seed_there_is_nothing_to_draw() -> None:
    assert paired_differences.draw(runs({"tag": {1: 0.5}, "ewc": {1: 0.5}}), OPTIONS) is None
    assert paired_differences.draw(runs({"naive": {1: 0.5}, "tag": {2: 0.5}}), OPTIONS) is None
