"""Where experiments run: a clone of this commit below scratch/, with its own parameters and the project's DVC cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ruamel.yaml import YAML

from pipeline.analysis.summary import COMPARED
from pipeline.config import Configuration, read_configuration, read_data_plan, read_run_plan
from pipeline.config.parsing import read_yaml
from pipeline.datasets.download import digest
from pipeline.experiments.records import Key, write_record
from pipeline.handover.documents import read_document
from pipeline.handover.logs import read_log
from pipeline.handover.manifests import TasksManifest
from pipeline.handover.runs import Trained
from pipeline.handover.spectra import Spectra
from pipeline.parallel.clones import OUTPUTS
from pipeline.parallel.dvc import experiment_ref, read_lock
from pipeline.parallel.lockfile import LOCK
from pipeline.support.dvc_config import write_dvc_config
from pipeline.support.errors import UserError
from pipeline.support.files import whole_file, whole_folder, write_json
from pipeline.support.git import environment, git, git_or_none, uncommitted

#: The folder of the clones, one for each experiment.
FOLDER = Path("scratch/reproduce")
#: The configuration files that are written into a clone.
FILES = ("params", "benchmarks", "methods")
#: Author of the commits that only DVC uses, for machines where Git has no user configured.
AUTHOR = ("-c", "user.name=reproduce", "-c", "user.email=reproduce@localhost")
DATASETS = "TAG_DATASETS"
#: Reference in the clone to the commit of its DVC experiment.
EXPERIMENT = "refs/reproduced"
#: Description of the tasks of a clone.
MANIFEST = "data/tasks/manifest.json"
#: Beginnings of the paths of code.
CODE = ("pipeline/", "stages/")


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold the lock of an experiment's clone during the block.

    Raises UserError if another call holds it, whose clone this one would check out anew under it.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    lock = FileLock(FOLDER / f"{name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another 'tag-pipeline reproduce {name}' is running here ({lock.lock_file} is locked); wait for it, or run "
            "it in another clone and take its runs with --from"
        ) from None
    try:
        yield
    finally:
        lock.release()


def prepare(name: str, configuration: Configuration) -> Path:
    """Create or update the clone of an experiment: this folder's commit with the experiment's configuration.

    Returns:
        The folder of the clone.

    Raises:
        UserError: if tracked files other than outputs, params.yaml and docs/ differ from the commit, because records
            name the commit that made them; or if Git or DVC fails.
    """
    if changed := uncommitted(*OUTPUTS, "params.yaml", "docs"):
        raise UserError(f"records name the commit that made them, and {changed} is not committed; commit it first")
    folder = FOLDER / name
    if (
        git_or_none("rev-parse", "--git-dir", folder=folder if folder.exists() else None) != ".git"
        or not folder.exists()
    ):
        folder.parent.mkdir(parents=True, exist_ok=True)
        git("clone", "--quiet", "--no-checkout", ".", str(folder))
    git("fetch", "--quiet", "--force", str(Path.cwd()), "HEAD", folder=folder)
    git("checkout", "--quiet", "--force", "--detach", git("rev-parse", "HEAD"), folder=folder)
    _share_cache(folder)
    values: tuple[dict[str, Any], ...] = (
        configuration.params.model_dump(),
        _dumped(configuration.benchmarks),
        _dumped(configuration.methods),
    )
    for file, value in zip(FILES, values, strict=True):
        with whole_file(folder / f"{file}.yaml") as partial:
            YAML().dump(value, partial)
    return folder


def _share_cache(folder: Path) -> None:
    """Give a clone the project's DVC cache. Raises UserError if DVC does not say where that is."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, errors="replace")  # noqa: S603 - DVC
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.strip()), "it gives no reason")
        raise UserError(f"dvc cache dir: {reason.strip()}; fix .dvc/config or .dvc/config.local and run again")
    write_dvc_config(folder, {"cache": {"dir": str(Path(done.stdout.strip()).resolve())}})


def _dumped(models: Any) -> dict[str, Any]:
    return {name: model.model_dump(exclude_none=True) for name, model in models.items()}


def run(folder: Path, runs: Sequence[tuple[str, int]], eigenspectrum: bool, jobs: int, options: Sequence[str]) -> int:
    """Run the train (and eigenspectrum) stages of some methods and seeds in parallel.

    Args:
        folder: The clone to run them in.
        runs: Method and seed of each run.
        eigenspectrum: Whether to run the eigenspectrum stage as well.
        jobs: How many stages to run at once.
        options: Further options for `tag-pipeline repro`.

    Returns:
        The exit status of `tag-pipeline repro`.
    """
    stages = ["train", "eigenspectrum"] if eigenspectrum else ["train"]
    targets = [f"{stages[-1]}@{method}-{seed}" for method, seed in runs]
    variables = environment()
    if given := variables.get(DATASETS):
        variables[DATASETS] = str(Path(given).resolve())
    command = [sys.executable, "-m", "pipeline", "repro", "-j", str(jobs), "--keep-going", *options, *targets]
    return subprocess.run(command, cwd=folder, env=variables).returncode  # noqa: S603 - this project


def of_other_code(folder: Path, runs: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Find the runs of an ordinary clone that its commit did not make, because the code was another then.

    A clone that `prepare` made has the code of its commit. In any other its user may have changed it before a run, after
    it, or both.

    Args:
        folder: The clone.
        runs: Method and seed of runs that have finished there.

    Returns:
        Those whose code, by dvc.lock, is not what lies in the folder.

    Raises:
        UserError: if there are such runs, and the clone's code differs from its commit.
    """
    runs = list(runs)
    if not runs:
        return set()
    if changed := uncommitted(folder=folder, only=("pipeline", "stages")):
        raise UserError(
            f"--from {folder}: records name the commit that made them, and {changed} is not committed there"
        )
    stages = read_lock(folder)
    made = {pair: [stages[name] for name in _stages_of(*pair) if name in stages] for pair in runs}
    code = {path for of_run in made.values() for stage in of_run for path in stage.deps if path.startswith(CODE)}
    now = {path: _hash_of_code(folder / path) for path in code}
    return {
        pair
        for pair, of_run in made.items()
        if any(now.get(path, found) != found for stage in of_run for path, found in stage.deps.items())
    }


def _stages_of(method: str, seed: int) -> tuple[str, str]:
    return f"train@{method}-{seed}", f"eigenspectrum@{method}-{seed}"


def _hash_of_code(path: Path) -> str:
    """The hash that dvc.lock has of a file or a folder of code (.dvcignore leaves everything else out); "" if it is gone."""
    if path.is_file():
        return digest(path, "md5")
    held = {file.relative_to(path).as_posix(): digest(file, "md5") for file in path.rglob("*.py")}
    listed = json.dumps([{"md5": held[name], "relpath": name} for name in sorted(held)])
    return hashlib.md5(listed.encode(), usedforsecurity=False).hexdigest() + ".dir" if held else ""


def save_experiment(folder: Path, name: str, summary: Mapping[str, Mapping[str, float]]) -> None:
    """Save the clone's state and the metrics of all records as a DVC experiment of this repository.

    `dvc exp save` refuses a pipeline in which a stage has no outputs yet. That is the case here, because a paper's
    tables have some methods with more seeds than others. So this makes the commit and the reference that `dvc exp save`
    would make.

    Args:
        folder: The clone.
        name: Name of the experiment.
        summary: Metrics of each method, as `pipeline.analysis.summary.summarize` returns them.
    """
    with whole_folder(folder / "metrics/methods") as methods:
        for method, entry in summary.items():
            write_json(methods / f"{method}.json", {key: entry[key] for key in COMPARED if key in entry})
    base = git("rev-parse", "HEAD", folder=folder)
    git("add", "--all", "--", LOCK, "metrics", *(f"{file}.yaml" for file in FILES), folder=folder)
    made = git("write-tree", folder=folder)
    commit = git(*AUTHOR, "commit-tree", made, "-p", base, "-m", f"experiment {name}", folder=folder)
    git("reset", "--quiet", folder=folder)
    # By a reference, for an older Git or protocol sends no commit that none leads to.
    git("update-ref", EXPERIMENT, commit, folder=folder)
    git("fetch", "--quiet", "--force", str(folder.resolve()), f"{EXPERIMENT}:{experiment_ref(base, name)}")


def _is_of(folder: Path, method: str, seed: int, plan: Path, eigenspectrum: bool) -> bool:
    """Whether DVC made a run's outputs from the plan, tasks, checkpoints and parameters that are in the folder now.

    An interrupted call may have replaced these and left the outputs of an earlier call.
    """
    stages = read_lock(folder)
    train, split = stages.get(f"train@{method}-{seed}"), stages.get("split")
    if not train or not split:
        return False
    present = {f"runs/{method}.yaml": digest(plan, "md5"), **split.outs, **train.outs}
    made = [train]
    if eigenspectrum:
        spectrum = stages.get(f"eigenspectrum@{method}-{seed}")
        params = (read_yaml(folder / "params.yaml") or {}).get("eigenspectrum")
        if not spectrum or spectrum.params.get("params.yaml", {}).get("eigenspectrum") != params:
            return False
        made.append(spectrum)
    return all(present.get(path, found) == found for stage in made for path, found in stage.deps.items())


def collect(folder: Path, experiment: str, keys: dict[tuple[str, int], Key]) -> int:
    """Write records of the finished runs of a clone.

    Only runs that were made with the plan, data and settings of their key count; others are passed over.

    Args:
        folder: The clone.
        experiment: Name of the experiment.
        keys: Method and seed of each wanted run -> its key.

    Returns:
        The number of records written.

    Raises:
        UserError: if a file of a run is damaged.
    """
    manifest = folder / MANIFEST
    if not (pairs := finished(folder, keys)):
        return 0
    fix = f"delete it, and run {experiment} again"
    commit, images = git("rev-parse", "HEAD", folder=folder), digest(manifest, "sha256")
    sources = read_document(TasksManifest, manifest, fix).sources
    for method, seed in pairs:
        key, metrics = keys[method, seed], folder / f"metrics/runs/{method}/{seed}.json"
        spectrum = metrics.with_suffix(".eigenspectrum.json")
        log = read_log(folder / f"logs/train/{method}-{seed}.json", metrics, fix)
        made: dict[str, Any] = {"commit": commit, "images": images, "machine": log.machine or {}}
        made |= {"seconds": log.seconds} | ({"sources": sources} if sources else {})
        trained = read_document(Trained, metrics, fix).plain()
        curvature = read_document(Spectra, spectrum, fix).plain() if key.eigenspectrum else None
        write_record(experiment, method, seed, key, made, trained, curvature)
    return len(pairs)


def finished(folder: Path, keys: Mapping[tuple[str, int], Key]) -> list[tuple[str, int]]:
    """List the runs that have finished in a clone, of those with the plan, data and settings of their key.

    Raises:
        UserError: if a plan or a configuration file is damaged.
    """
    data = folder / "runs/data.yaml"
    if not data.exists() or not (folder / MANIFEST).exists():
        return []
    found = []
    for (method, seed), key in keys.items():
        plan, metrics = folder / f"runs/{method}.yaml", folder / f"metrics/runs/{method}/{seed}.json"
        spectrum = metrics.with_suffix(".eigenspectrum.json")
        if not plan.exists() or not metrics.exists() or (key.eigenspectrum and not spectrum.exists()):
            continue
        if not _is_of(folder, method, seed, plan, bool(key.eigenspectrum)):
            continue
        settings = read_configuration(folder).params.eigenspectrum if key.eigenspectrum else None
        if Key.of(read_run_plan(plan), read_data_plan(data), settings) == key:
            found.append((method, seed))
    return found
