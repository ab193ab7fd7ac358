"""The command `reproduce`: rerun the published experiments.

tag-pipeline reproduce                        # list them, with how many of their runs are done
tag-pipeline reproduce NAME [--jobs N]        # run what is missing, then compare
tag-pipeline reproduce NAME --methods tag,er --seeds 1,2    # only some of its runs
tag-pipeline reproduce NAME --from FOLDER     # run nothing, take the finished runs of another clone
tag-pipeline reproduce --report               # run nothing, renew docs/reproductions.md and its picture
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from pipeline.analysis.summary import summarize
from pipeline.analysis.tables import tables
from pipeline.config import Configuration, read_configuration
from pipeline.config.arguments import cores
from pipeline.experiments.document import DOCUMENT, renew_document
from pipeline.experiments.experiments import Experiment, configured, plans, read_experiments
from pipeline.experiments.finished import collect, finished, of_other_code, recorded_before
from pipeline.experiments.records import Key, as_run, path_of, read_record
from pipeline.experiments.report import Records, is_told, state, write_results
from pipeline.experiments.together import Outcome, outcome
from pipeline.experiments.workspace import FOLDER, forget_runs, prepare, run, save_experiment
from pipeline.support.alone import alone
from pipeline.support.errors import UserError, nearest
from pipeline.support.files import write_text


def reproduce(
    name: str | None = None,
    jobs: int | None = None,
    methods: str | None = None,
    seeds: Sequence[int] | None = None,
    origin: Path | None = None,
    report: bool = False,
    scheduler: str | None = None,
) -> None:
    """Run what is missing of an experiment and compare it with the published numbers, or list the experiments.

    Args:
        name: Name of an experiment in experiments.yaml; None lists them, or with `report` renews what is told of all.
        jobs: Runs at once; None means as many as there are cores.
        methods: Only these methods, separated by commas; None means all.
        seeds: Only these seeds; None means all.
        origin: Another clone of the project, whose finished runs are taken instead of running any: its records, what an
            unfinished `reproduce` has finished there, and its own runs.
        report: Whether to run nothing, and only renew the report from the records.
        scheduler: Address of a running Dask scheduler; None uses this machine alone.

    Raises:
        UserError: if a file or an argument is wrong, or if runs failed; then the finished ones have been recorded, and
            results and document renewed if there is one.
    """
    if name is None:
        # Not --jobs: it chooses nothing, and make passes on the JOBS of an environment.
        of_one = {"--methods": methods, "--seeds": seeds, "--from": origin, "--scheduler": scheduler}
        if given := [option for option, value in of_one.items() if value is not None]:
            raise UserError(f"{', '.join(given)}: of which experiment? name one, as in: tag-pipeline reproduce NAME")
    experiments, base = read_experiments(), read_configuration()
    if name is None and report:
        _renew()
        print(f"{DOCUMENT}: renewed from the records")
        return
    if name is None:
        for listed, experiment in experiments.items():
            records = _records(listed, experiment, configured(base, listed, experiment))
            print(f"{listed:32} {state(experiment, records):16} {experiment.paper}: {experiment.description}")
        return
    if name not in experiments:
        raise UserError(f"experiments.yaml has no '{name}'; {nearest(name, experiments, 40)}")
    experiment = experiments[name]
    configuration = configured(base, name, experiment)
    keys = _keys(experiment, configuration)
    wanted = _wanted(methods, seeds, experiment)
    missing = [pair for pair in wanted if read_record(name, *pair, keys[pair]) is None]
    status = 0
    if origin is not None:
        print(f"{_take(origin, name, {pair: keys[pair] for pair in missing})} runs taken from {origin}")
    elif missing and not report:
        lock = FOLDER / f"{name}.lock"  # another call would check the clone out anew under this one
        busy = (
            f"another 'tag-pipeline reproduce {name}' is running here ({lock} is locked); wait for it, or run it in another "
            "clone and take its runs with --from"
        )
        with alone(lock, busy):
            status = _run(name, experiment, configuration, keys, missing, jobs or cores(), scheduler)
    records = _records(name, experiment, configuration)
    if not records:
        raise UserError(f"{name}: no run has finished; see above, or docs/datasets.md for where its data come from")
    if missing and not report and is_told(name, records):  # what is told of them holds still
        if status:
            raise UserError(f"{name}: no run was added, see above; fix the cause and run again")
        print(f"{name}: {state(experiment, records)}; no run was added")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER / f"{name}.report.lock"):  # of two calls at once, the later tells of the runs of both
        records = _records(name, experiment, configuration)
        compared = write_results(name, experiment, configuration, records)
    _renew()
    held = sum(found.verdict == "reproduced" for found in compared)
    verdicts = f"; {held} of {len(compared)} published rows reproduced" if compared else ""
    print(f"{name}: {state(experiment, records)}{verdicts}; results/{name}/report.md")
    if status:
        raise UserError(f"{name}: some runs failed, see above; fix the cause and run again")


def _take(origin: Path, name: str, missing: dict[tuple[str, int], Key]) -> int:
    """Take finished runs of another clone, and return how many.

    Raises UserError if that is no clone where the experiment has run, or if a file of a run is damaged.
    """
    places = [place for place in (origin / FOLDER / name, origin) if (place / "runs/data.yaml").exists()]
    if not places and not path_of(name, "any", 0, origin).parent.is_dir():
        raise UserError(f"--from {origin}: nothing of {name} there; name a clone of this project that has run it")
    left, taken = dict(missing), 0
    for pair, key in missing.items():
        if read_record(name, *pair, key, origin) is not None:
            write_text(path_of(name, *pair), path_of(name, *pair, origin).read_text(encoding="utf-8"))
            del left[pair]
            taken += 1
    for place in places:
        others = of_other_code(place, finished(place, left)) if place == origin else set()
        if others:
            print(f"{len(others)} runs of {origin} were made by other code than is there now: left out")
        taken += collect(place, name, {pair: key for pair, key in left.items() if pair not in others}, ours=False)
        left = {pair: key for pair, key in left.items() if read_record(name, *pair, key) is None}
    return taken


def _renew() -> None:
    """Renew the document from all records; of two commands at once, each sees the records of the other.

    And the files of the configuration as they are now: runs may have taken hours since they were read.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER / "document.lock"):
        renew_document(outcomes(read_experiments(), read_configuration()))


def outcomes(experiments: Mapping[str, Experiment], base: Configuration) -> list[Outcome]:
    """Return what came out of each experiment, from its records."""
    found = []
    for name, experiment in experiments.items():
        configuration = configured(base, name, experiment)
        records = _records(name, experiment, configuration)
        found.append(outcome(name, experiment, records, plans(configuration)[1]))
    return found


def _run(
    name: str,
    experiment: Experiment,
    configuration: Configuration,
    keys: dict[tuple[str, int], Key],
    missing: list[tuple[str, int]],
    jobs: int,
    scheduler: str | None,
) -> int:
    """Run what is missing, record what has finished, and return the exit status.

    Runs that an interrupted call has finished are recorded first, even those that this call does not ask for: checking
    out another commit in the clone would lose them. `keys` has all runs of the experiment. Runs that have had a record are
    trained, and not restored: who deletes it wants to know whether its numbers come out again.
    """
    added = 0
    if (FOLDER / name).exists():
        unrecorded = {pair: key for pair, key in keys.items() if not read_record(name, *pair, key)}
        added = collect(FOLDER / name, name, unrecorded, once=True)
        missing = [pair for pair in missing if not read_record(name, *pair, keys[pair])]
    if not missing:
        return 0
    folder = prepare(name, configuration)
    options = ["--scheduler", scheduler] if scheduler else []
    anew = [pair for pair in missing if recorded_before(folder, *pair)]
    forget_runs(folder, anew)
    status = 0
    try:
        for pairs, more in (([pair for pair in missing if pair not in anew], []), (anew, ["--no-run-cache"])):
            if pairs:
                status |= run(folder, pairs, experiment.eigenspectrum is not None, jobs, [*options, *more])
        return status
    finally:
        added += collect(folder, name, {pair: keys[pair] for pair in missing})
        if added:
            records = _records(name, experiment, configuration)
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


def _wanted(methods: str | None, seeds: Sequence[int] | None, experiment: Experiment) -> list[tuple[str, int]]:
    """The runs of the experiment that were asked for. Raises UserError for a method or a seed that it does not have."""
    chosen = methods.split(",") if methods is not None else experiment.methods
    for method in chosen:
        if method not in experiment.methods:
            raise UserError(f"--methods {method}: not in this experiment; {nearest(method, experiment.methods, 40)}")
    runs = [pair for pair in experiment.runs if pair[0] in chosen]
    if seeds is None:
        return runs
    for seed in seeds:
        if seed not in (known := {each for _, each in runs}):
            of = f" for {', '.join(chosen)}" if methods is not None else ""
            listed = ", ".join(map(str, sorted(known)))
            raise UserError(f"--seeds {seed}: not in this experiment{of}; it has {listed}")
    return [pair for pair in runs if pair[1] in seeds]
