"""The report: what was run, the methods with confidence intervals, our results beside the published ones, the figures.

It is a list of sections; `pipeline.report.writing` writes them.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.analysis.intervals import Estimate, estimate, paired_difference
from pipeline.analysis.prediction import FOLLOWS_NATS, described, distinct, model_holds_until, rank_correlation
from pipeline.analysis.published import compare
from pipeline.config.plan import RunPlan
from pipeline.figures.style import matrix_name
from pipeline.report.writing import CAPTIONS, Section, Table
from pipeline.support.errors import UserError

#: Column of the runs -> heading, factor, number of decimals.
MEASURES = {
    "average_accuracy": ("average accuracy (%)", 100, 1),
    "forgetting": ("forgetting (points)", 100, 1),
    "learning_accuracy": ("learning accuracy (%)", 100, 1),
    "average_anytime_accuracy": ("average anytime accuracy (%)", 100, 1),
    "worst_case_accuracy": ("worst-case accuracy (%)", 100, 1),
    "average_minimum_accuracy": ("average minimum accuracy (%)", 100, 1),
    "stability_gap": ("stability gap (points)", 100, 1),
    "largest_eigenvalue": ("largest eigenvalue", 1, 2),
}
#: A barrier in nats, up to which there counts as none.
BARRIER = 0.01
#: The packages whose versions the report names.
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "dvc")


def report(
    tables: Mapping[str, pd.DataFrame],
    plans: Mapping[str, RunPlan],
    data: Mapping[str, Any],
    published: pd.DataFrame,
    options: Mapping[str, Any],
    drawn: Sequence[str],
) -> list[Section]:
    """Compose the sections of the report. Runs that are planned but not there are reported as missing.

    Args:
        tables: The tables of plots/, by name.
        plans: The resolved plan of each configured method.
        data: The data plan from the tasks' manifest, with `tasks`, their number, `benchmark`, its name, and, where there
            are datasets that could not be verified or are one's own, `sources`, what was read of each; where every run
            draws its own tasks, also `drawn`, for each seed the classes of each task, first the seed of the contact sheet.
        published: The table of published results.
        options: `reference`, the method that the others are compared with; `seeds`, the number of seeds planned for
            each method; and `here`, whether the runs are of this machine.
        drawn: Names of the figures that were drawn.
    """
    runs = tables["runs"]
    sections = [
        Section("What was run", _what(runs, data, options) + _curvature(tables["eigenvalues"])),
        _methods(runs, plans, str(options["reference"]), options["seeds"]),
        Section("Settings", ["As resolved for each method; what a method does not use is left out."], _settings(plans)),
    ]
    if beside := _published(runs, plans, str(data["benchmark"]), published):
        sections.append(beside)
    if predicted := _prediction(tables["prediction"], tables["line"], tables["eigenvalues"]):
        sections.append(predicted)
    if drawn_classes := data.get("drawn"):
        sections.append(_classes(drawn_classes, "contact_sheet" in drawn))
    if nameless := sorted(set(drawn) - set(CAPTIONS)):
        raise UserError(
            f"the figure '{nameless[0]}' has no caption in CAPTIONS of pipeline/report/writing.py; add it there"
        )
    sections.append(Section("Figures", figures=[name for name in CAPTIONS if name in drawn]))
    return sections


def _what(runs: pd.DataFrame, data: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    public = {entry for entry in data["datasets"] if isinstance(entry, str)}
    names = [entry if isinstance(entry, str) else entry["path"] for entry in data["datasets"]]
    stream = ", ".join(f"{key} {value}" for key, value in data["stream"].items() if key != "name")
    seeds = sorted(int(seed) for seed in runs["seed"].unique())
    judged = "the test images" if data["evaluation"] == "test" else "held-out training images"
    sources = [
        f"Images of {name}: {source}."
        + (" No checksum is known that tells whether they are the published ones." if name in public else "")
        for name, source in (data.get("sources") or {}).items()
    ]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return [
        f"Benchmark {data['benchmark']}: {data['tasks']} tasks of {', '.join(names)}, a {data['stream']['name']} stream "
        f"({stream}), judged on {judged}.",
        *sources,
        f"Seeds {', '.join(map(str, seeds))}."
        # Not the device: compute.device may have been another when some of the runs were made.
        + (f" {platform.machine()}, {platform.system()}." if options["here"] else ""),
        # Not Python's version: constraints.txt does not pin it, and the report is a record.
        *([f"Packages: {versions}."] if options["here"] else []),
    ]


def _curvature(spectrum: pd.DataFrame) -> list[str]:
    """What the eigenvalues are of, and how many did not converge."""
    if spectrum.empty:
        return []
    few, many = spectrum["examples"].min(), spectrum["examples"].max()
    examples, images = str(few) if few == many else f"{few} to {many}", " or ".join(sorted(spectrum["images"].unique()))
    missed = int((~spectrum["converged"].astype(bool)).sum())
    return [
        f"Eigenvalues: of the {matrix_name(spectrum)} matrix of each task's mean cross-entropy (nats) over {examples} of its "
        f"{images} images; "
        + (
            f"{missed} of {len(spectrum)} did not reach the tolerance."
            if missed
            else "all of them reached the tolerance."
        )
    ]


def _classes(drawn: Mapping[int, Sequence[Sequence[int]]], shown: bool) -> Section:
    """The classes of each task, by seed; `shown` says whether a contact sheet shows those of the first seed."""
    first, *_ = drawn
    text = [
        "The order of the classes is drawn anew in every run, from its seed alone, so that all methods learn the same tasks "
        "with the same seed. Where figures number the tasks, a number is a place in the stream."
        + (f" The contact sheet shows the tasks of seed {first}." if shown else "")
    ]
    by_task = zip(*drawn.values(), strict=True)
    rows = [
        [str(task), *(", ".join(map(str, classes)) for classes in of_seeds)]
        for task, of_seeds in enumerate(by_task, start=1)
    ]
    return Section("Classes of the tasks", text, Table(["task", *(f"seed {seed}" for seed in drawn)], rows))


def _methods(runs: pd.DataFrame, plans: Mapping[str, RunPlan], reference: str, expected: Mapping[str, int]) -> Section:
    measures = [name for name in MEASURES if name in runs and runs[name].notna().any()]
    compared = reference in set(runs["method"])
    headings = ["method", "seeds", *(MEASURES[name][0] for name in measures)]
    if compared:
        headings.append(f"accuracy less that of {reference} (points)")
    by_seed: dict[str, dict[Any, float]] = {
        str(method): rows.set_index("seed")["average_accuracy"].to_dict()
        for method, rows in runs.groupby("method", sort=False)
    }
    rows = []
    for method in plans:
        of_method = runs[runs["method"] == method]
        if not len(of_method):
            rows.append([method, "missing", *["missing"] * (len(headings) - 2)])
            continue
        seeds = str(len(of_method)) + (f" of {expected[method]}" if len(of_method) < expected[method] else "")
        row = [method, seeds]
        for name in measures:
            _, factor, digits = MEASURES[name]
            values = [factor * float(value) for value in of_method[name].dropna()]
            fewer = f" on {len(values)} seeds" if 1 < len(values) < len(of_method) else ""
            row.append(_shown(estimate(values), digits) + fewer if values else "missing")
        if compared:
            row.append(_difference(by_seed[method], by_seed[reference], method == reference))
        rows.append(row)
    text = [
        "Mean ± standard deviation over the seeds (divisor n − 1), and the 95 % interval of the mean by Student's t in "
        "brackets; with one seed there is neither."
    ]
    if compared:
        text.append(
            f"The last column pairs each method with {reference} seed by seed: the mean of the differences and its 95 % "
            "interval."
        )
    return Section("Methods", text, Table(headings, rows))


def _shown(value: Estimate, digits: int, sign: str = "") -> str:
    mean = f"{value.mean:{sign}.{digits}f}"
    if value.std is None or value.low is None or value.high is None:
        return f"{mean} (one seed)" if value.n == 1 else mean
    return f"{mean} ± {value.std:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _difference(ours: Mapping[int, float], theirs: Mapping[int, float], same: bool) -> str:
    if same:
        return "the reference"
    found = paired_difference(
        {seed: 100 * value for seed, value in ours.items()}, {seed: 100 * value for seed, value in theirs.items()}
    )
    if found is None:
        return "no seed in common"
    if found.low is None or found.high is None:
        return f"{found.mean:+.1f} (one seed)"
    return f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]" + (
        f" on {found.n} seeds" if found.n != len(ours) else ""
    )


def _settings(plans: Mapping[str, RunPlan]) -> Table:
    parts = ["optimizer", "strategy", "regime", "training", "model"]
    rows = []
    for method, plan in plans.items():
        values = plan.model_dump(exclude_none=True)
        values["regime"].pop("name", None)
        rows.append([method, *(_listed(values[part]) for part in parts)])
    return Table(["method", *parts], rows)


def _listed(values: Mapping[str, Any]) -> str:
    name = [str(values["name"])] if "name" in values else []
    return ", ".join(name + [f"{key} {value}" for key, value in values.items() if key != "name"])


def _published(
    runs: pd.DataFrame, plans: Mapping[str, RunPlan], benchmark: str, published: pd.DataFrame
) -> Section | None:
    compared = compare(runs, plans, benchmark, published)
    rows = [
        [
            found.method,
            found.row.row,
            _shown(found.ours, 1),
            _shown(found.row.accuracy, 1),
            difference_shown(found.difference),
            found.verdict,
            _beside(found.forgetting, found.row.forgetting),
            _beside(found.learning_accuracy, found.row.learning_accuracy),
            "; ".join(found.row.differs) or "none known to differ",
        ]
        for found in compared
    ]
    if not rows:
        return None
    included = "included" if compared[0].row.forgetting_metric == "forgetting_paper" else "left out"
    text = [
        "Average accuracy in percent. d is our mean less the published one, with Welch's 95 % interval. Reproduced where |d| "
        "is at most 1.5 points, or where the interval holds 0 and |d| is at most 3; higher or lower otherwise: one rule for "
        f"all rows. Forgetting as the paper counts it, from the best accuracy at any time, the last {included}."
    ]
    return Section(
        "Beside the published",
        text,
        Table(
            [
                "method", "published row", "ours", "published", "d", "verdict", "forgetting: ours, published (points)",
                "learning accuracy: ours, published (%)", "settings",
            ],
            rows,
        ),
    )  # fmt: skip


def difference_shown(value: Estimate) -> str:
    """Format a difference with its sign and, if it has one, its interval, such as "+1.2 [-0.3, +2.7]"."""
    if value.low is None:
        return _shown(value, 1, "+")
    return f"{value.mean:+.1f} [{value.low:+.1f}, {value.high:+.1f}]"


def _beside(ours: Estimate | None, published: Estimate | None) -> str:
    """Our mean and the published one in percent."""
    return f"{_shown(ours, 1) if ours else 'missing'}, {_shown(published, 1) if published else 'none'}"


def _prediction(table: pd.DataFrame, line: pd.DataFrame, spectrum: pd.DataFrame) -> Section | None:
    """What the quadratic model of the loss said about forgetting, in a sentence for each question."""
    if table.empty:
        return None
    whole, table = table, distinct(table)
    repeated = [str(name) for name in whole["method"].unique() if name not in set(table["method"])]
    line = line.merge(table[["method", "seed"]].drop_duplicates(), on=["method", "seed"])
    again = f"{', '.join(repeated)} repeats the weights of another method and is not counted." if repeated else ""
    rises, near = table["rise"], table["predicted_rise"].sub(table["rise"]).abs()
    within = int((near <= 0.5 * rises.abs()).sum())
    flat = int((table["barrier"] <= BARRIER).sum())
    matrix = "Hessian" if spectrum.empty else matrix_name(spectrum)
    bounds = table["bound"].dropna()
    median = f"{bounds.median():.3g}" if len(bounds) else "undefined"
    missing = len(table) - len(bounds)
    unbounded = f" {missing} pairs have no bound: all eigenvalues found of the task are negative." if missing else ""
    model, form, bound = (
        described(rank_correlation(table, name, "rise")) for name in ("predicted_rise", "quadratic_term", "bound")
    )
    return Section(
        "Curvature and forgetting",
        [
            f"Of {len(table)} pairs of a task and a later one, the quadratic model g·Δw + ½ Δw·HΔw of the task's loss "
            f"(H: its {matrix} matrix) predicts the rise of that loss with a rank correlation of {model}, its quadratic term "
            f"alone with one of {form}, the bound ½ λ₁ ‖Δw‖² with one of {bound} (Spearman, with the 95 % interval over "
            "runs).",
            f"The model comes within half of the rise for {within} of {len(table)} pairs; the median rise is "
            f"{rises.median():.3g} nats, the median prediction {table['predicted_rise'].median():.3g}, the median bound "
            f"{median}.{unbounded}",
            f"Along the straight line between the two weights the model follows the loss, within a fifth of its change or "
            f"{FOLLOWS_NATS} nats, over {100 * model_holds_until(line).median():.0f} % of the way (median).",
            f"For {flat} of {len(table)} pairs the loss on that line nowhere exceeds the straight line between its ends by "
            f"more than {BARRIER} nats: no barrier lies between the two weights.",
            *([again] if again else []),
        ],
    )
