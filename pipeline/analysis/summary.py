"""Summaries of the metrics of single runs: means and standard deviations over the seeds."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pipeline.analysis.tables import METRICS

#: Those of METRICS that `dvc metrics` shows: as many columns as fit on a screen.
COMPARED = ("average_accuracy", "forgetting", "learning_accuracy", "largest_eigenvalue")


def summarize(runs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Summarise the runs of each method over their seeds.

    Args:
        runs: The table `runs` made by `tables`.

    Returns:
        For each method its metrics: the mean over the seeds that have it under the name of the metric and, if there are
        several, the sample standard deviation under the name with "_std". Metrics without any value are left out.
    """
    summary: dict[str, dict[str, float]] = {}
    for method, rows in runs.groupby("method", sort=False):
        entry = summary.setdefault(str(method), {})
        for metric in METRICS:
            if metric not in rows or rows[metric].isna().all():
                continue
            values = rows[metric].dropna()
            entry[metric] = round(float(values.mean()), 6)
            if len(values) > 1:
                entry[f"{metric}_std"] = round(float(values.std(ddof=1)), 6)
    return summary


def summary_table(summary: Mapping[str, Mapping[str, float]], benchmark: str, runs: pd.DataFrame) -> pd.DataFrame:
    """Turn a summary into a table with one row for each method.

    Args:
        summary: The summary made by `summarize`.
        benchmark: The benchmark, which becomes the first column.
        runs: The table `runs` that the summary was made from, for the number of seeds of each method.
    """
    seeds = runs.groupby("method")["seed"].count()
    return pd.DataFrame(
        [
            {"benchmark": benchmark, "method": method, "seeds": int(seeds[method]), **entry}
            for method, entry in summary.items()
        ]
    )
