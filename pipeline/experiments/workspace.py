"""Where experiments run: a clone of this commit below scratch/, with its own parameters and the project's DVC cache."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.analysis.summary import COMPARED
from pipeline.config import Configuration
from pipeline.parallel.clones import OUTPUTS
from pipeline.parallel.command import HERE
from pipeline.parallel.dvc import experiment_ref
from pipeline.parallel.lockfile import LOCK, blocks
from pipeline.parallel.scheduler import OF_RUNS
from pipeline.support.alone import alone
from pipeline.support.dvc_config import write_dvc_config
from pipeline.support.errors import UserError
from pipeline.support.files import whole_file, whole_folder, write_json, write_text
from pipeline.support.git import environment, git, git_or_none, uncommitted, unlock

#: The folder of the clones, one for each experiment.
FOLDER = Path("scratch/reproduce")
#: The configuration files that are written into a clone.
FILES = ("params", "benchmarks", "methods")
#: Author of the commits that only DVC uses, for machines where Git has no user configured.
AUTHOR = ("-c", "user.name=reproduce", "-c", "user.email=reproduce@localhost")
DATASETS = "TAG_DATASETS"
#: Reference in the clone to the commit of its DVC experiment.
EXPERIMENT = "refs/reproduced"


def prepare(name: str, configuration: Configuration) -> Path:
    """Create or update the clone of an experiment: this folder's commit with the experiment's configuration.

    Returns:
        The folder of the clone.

    Raises:
        UserError: if tracked files other than outputs, params.yaml and docs/ differ from the commit, because records
            name the commit that made them; if stages are running in the clone; or if Git or DVC fails.
    """
    if changed := uncommitted(*OUTPUTS, "params.yaml", "docs"):
        raise UserError(f"records name the commit that made them, and {changed} is not committed; commit it first")
    if inside := git("rev-parse", "--show-prefix"):
        raise UserError(
            f"experiments run in a clone of this folder, which is {inside} of a larger repository; give it one of its own"
        )
    folder = FOLDER / name
    if (
        git_or_none("rev-parse", "--git-dir", folder=folder if folder.exists() else None) != ".git"
        or not folder.exists()
    ):
        folder.parent.mkdir(parents=True, exist_ok=True)
        git("clone", "--quiet", "--no-checkout", ".", str(folder))
    busy = f"a 'tag-pipeline repro' that a killed call left behind is still at work in {folder}; wait for it, or end it"
    with alone(folder / HERE, busy):  # another commit would change the code under its stages
        unlock(folder)
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
    # What was not set stays away; a null that was written does not.
    return {name: model.model_dump(exclude_unset=True) for name, model in models.items()}


def forget_runs(folder: Path, runs: Sequence[tuple[str, int]]) -> None:
    """Take runs out of a clone's dvc.lock, so that DVC does not take their outputs for present."""
    path = folder / LOCK
    if runs and path.exists():
        head, parts = blocks(path.read_text(encoding="utf-8"))
        gone = {f"{stage}@{method}-{seed}" for stage in OF_RUNS for method, seed in runs}
        write_text(path, head + "".join(part for name, part in parts if name not in gone))


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
        variables[DATASETS] = str(Path(given).expanduser().resolve())
    command = [sys.executable, "-m", "pipeline", "repro", "-j", str(jobs), "--keep-going", *options, *targets]
    process = subprocess.Popen(command, cwd=folder, env=variables)  # noqa: S603 - this project
    try:
        return process.wait()
    except KeyboardInterrupt:  # which a terminal sends to the child, too: it ends its stages, on other machines as well
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
        raise


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
