"""Rerun the published experiments.

python -m pipeline.experiments                        # list them, with how many of their runs are done
python -m pipeline.experiments NAME [--jobs N]        # run what is missing, then compare
python -m pipeline.experiments NAME --methods tag,er --seeds 1,2    # only some of its runs
python -m pipeline.experiments NAME --from FOLDER     # run nothing, take the finished runs of another clone
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline.analysis.summary import summarize, tables
from pipeline.config import Configuration, read_configuration
from pipeline.config.arguments import Parser, cores, jobs
from pipeline.config.arguments import seeds as seeds_of
from pipeline.experiments.experiments import Experiment, configured, plans, read_experiments
from pipeline.experiments.records import Key, as_run, read_record
from pipeline.experiments.report import Records, overall, renew_document, state, write_results
from pipeline.experiments.workspace import collect, prepare, run, save_experiment
from pipeline.support.errors import UserError, nearest, run_stage


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: The command-line arguments; None means those of this process.

    Raises:
        UserError: if a file or an argument is wrong, or if runs failed; then the finished ones have been recorded.
    """
    parser = Parser("pipeline.experiments", __doc__)
    parser.add_argument("name", nargs="?", help="name of an experiment in experiments.yaml; without it, list them")
    parser.add_argument("-j", "--jobs", type=jobs, default=cores(), help="runs at once (default: the cores)")
    parser.add_argument("--methods", help="only these methods, such as tag,er")
    parser.add_argument("--seeds", help="only these seeds, such as 1,2")
    parser.add_argument(
        "--from", dest="origin", type=Path, metavar="FOLDER", help="take finished runs from another clone"
    )
    parser.add_argument("--report", action="store_true", help="run nothing; renew the report from the records")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask scheduler, as for pipeline.parallel")
    given = parser.parse_args(arguments)
    experiments, base = read_experiments(), read_configuration()
    if given.name is None:
        for name, experiment in experiments.items():
            records = _records(name, experiment, configured(base, name, experiment))
            print(f"{name:32} {state(experiment, records):16} {experiment.paper}: {experiment.description}")
        return
    if given.name not in experiments:
        raise UserError(f"experiments.yaml has no '{given.name}'; {nearest(given.name, experiments, 40)}")
    experiment = experiments[given.name]
    configuration = configured(base, given.name, experiment)
    keys = _keys(experiment, configuration)
    wanted = _wanted(given.methods, given.seeds, experiment)
    missing = [pair for pair in wanted if read_record(given.name, *pair, keys[pair]) is None]
    status = 0
    if given.origin is not None:
        if not (given.origin / "runs/data.yaml").exists():
            raise UserError(
                f"--from {given.origin}: no runs/data.yaml there; name a clone of this project that has run"
            )
        taken = collect(given.origin, given.name, {pair: keys[pair] for pair in missing})
        print(f"{taken} runs taken from {given.origin}")
    elif missing and not given.report:
        status = _run(given.name, experiment, configuration, keys, missing, given)
    records = _records(given.name, experiment, configuration)
    if not records:
        raise UserError(
            f"{given.name}: no run has finished; see above, or docs/datasets.md for where its data come from"
        )
    compared = write_results(given.name, experiment, configuration, records)
    listed = [
        (name, entry, _records(name, entry, configured(base, name, entry)), plans(configured(base, name, entry))[1])
        for name, entry in experiments.items()
    ]
    renew_document(overall(listed))
    held = sum(found.verdict == "reproduced" for found in compared)
    verdicts = f"; {held} of {len(compared)} published rows reproduced" if compared else ""
    print(f"{given.name}: {state(experiment, records)}{verdicts}; results/{given.name}/report.md")
    if status:
        raise UserError(f"{given.name}: some runs failed, see above; fix the cause and run again")


def _run(
    name: str,
    experiment: Experiment,
    configuration: Configuration,
    keys: dict[tuple[str, int], Key],
    missing: list[tuple[str, int]],
    given: argparse.Namespace,
) -> int:
    """Run what is missing, record what has finished, and return the exit status.

    Runs that an interrupted call has finished are recorded first, even those that this call does not ask for: checking
    out another commit in the clone would lose them. `keys` has all runs of the experiment.
    """
    from pipeline.experiments.workspace import FOLDER

    if (FOLDER / name).exists():
        collect(FOLDER / name, name, {pair: key for pair, key in keys.items() if not read_record(name, *pair, key)})
        missing = [pair for pair in missing if not read_record(name, *pair, keys[pair])]
    if not missing:
        return 0
    folder = prepare(name, configuration)
    options = ["--scheduler", given.scheduler] if given.scheduler else []
    try:
        return run(folder, missing, experiment.eigenspectrum, given.jobs, options)
    finally:
        collect(folder, name, {pair: keys[pair] for pair in missing})
        if records := _records(name, experiment, configuration):
            save_experiment(folder, name, summarize(tables([as_run(record) for record in records.values()])["runs"]))


def _keys(experiment: Experiment, configuration: Configuration) -> dict[tuple[str, int], Key]:
    """Keys of all runs of an experiment, by method and seed."""
    data, methods = plans(configuration)
    settings = configuration.params.eigenspectrum if experiment.eigenspectrum else None
    return {(method, seed): Key.of(methods[method], data, settings) for method, seed in experiment.runs}


def _records(name: str, experiment: Experiment, configuration: Configuration) -> Records:
    """Records of the finished runs, in the order of the experiment's tables."""
    found = {pair: read_record(name, *pair, key) for pair, key in _keys(experiment, configuration).items()}
    order = {method: number for number, method in enumerate(experiment.methods)}
    pairs = sorted(found, key=lambda pair: (order[pair[0]], pair[1]))
    return {pair: record for pair in pairs if (record := found[pair]) is not None}


def _wanted(methods: str | None, seeds: str | None, experiment: Experiment) -> list[tuple[str, int]]:
    """The runs of the experiment that were asked for. Raises UserError if it has none of them."""
    chosen = methods.split(",") if methods is not None else experiment.methods
    for method in chosen:
        if method not in experiment.methods:
            raise UserError(f"--methods {method}: not in this experiment; {nearest(method, experiment.methods, 40)}")
    numbers = seeds_of(seeds, "--seeds") if seeds is not None else None
    found = [pair for pair in experiment.runs if pair[0] in chosen and (numbers is None or pair[1] in numbers)]
    if not found:
        raise UserError(f"--seeds {seeds}: the experiment has none of these for {', '.join(chosen)}")
    return found


if __name__ == "__main__":
    run_stage("reproduce", main)
