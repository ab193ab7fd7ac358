"""The runs that have finished in a clone, and the records made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.config import read_configuration, read_data_plan, read_run_plan
from pipeline.config.parsing import read_yaml
from pipeline.experiments.records import Key, write_record
from pipeline.handover.documents import read_document
from pipeline.handover.logs import read_log
from pipeline.handover.manifests import TasksManifest
from pipeline.handover.runs import Trained
from pipeline.handover.spectra import Spectra
from pipeline.parallel.dvc import Locked, read_lock
from pipeline.support.errors import UserError
from pipeline.support.files import digest, write_text
from pipeline.support.git import git, uncommitted

#: Description of the tasks of a clone.
MANIFEST = "data/tasks/manifest.json"
#: Where a clone notes the outputs of which records have been written.
NOTED = Path("scratch/recorded")
#: Beginnings of the paths of code.
CODE = ("pipeline/", "stages/")


def finished(folder: Path, keys: Mapping[tuple[str, int], Key]) -> list[tuple[str, int]]:
    """List the runs that have finished in a clone, of those with the plan, data and settings of their key.

    Raises:
        UserError: if a plan or a configuration file is damaged.
    """
    data = folder / "runs/data.yaml"
    if not data.exists() or not (folder / MANIFEST).exists():
        return []
    found = []
    stages = read_lock(folder)
    measured = any(key.eigenspectrum for key in keys.values())
    try:
        eigenspectrum = read_configuration(folder).params.eigenspectrum if measured else None
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    for (method, seed), key in keys.items():
        plan, metrics = folder / f"runs/{method}.yaml", folder / f"metrics/runs/{method}/{seed}.json"
        spectrum = metrics.with_suffix(".eigenspectrum.json")
        if not plan.exists() or not metrics.exists() or (key.eigenspectrum and not spectrum.exists()):
            continue
        if not _is_of(folder, stages, method, seed, bool(key.eigenspectrum)):
            continue
        settings = eigenspectrum if key.eigenspectrum else None
        if Key.of(read_run_plan(plan), read_data_plan(data), settings) == key:
            found.append((method, seed))
    return found


def _is_of(folder: Path, stages: Mapping[str, Locked], method: str, seed: int, eigenspectrum: bool) -> bool:
    """Whether DVC made a run's outputs from the plans, tasks, checkpoints and parameters that are in the folder now.

    An interrupted call may have replaced these and left the outputs of an earlier call: a new plan of the data, too,
    beside the tasks of the one before.
    """
    train, split = stages.get(f"train@{method}-{seed}"), stages.get("split")
    if not train or not split:
        return False
    plans = {path: digest(folder / path, "md5") for path in (f"runs/{method}.yaml", "runs/data.yaml")}
    present = {**plans, **split.outs, **train.outs}
    made, outputs = [split, train], [f"metrics/runs/{method}/{seed}.json"]
    if eigenspectrum:
        spectrum = stages.get(f"eigenspectrum@{method}-{seed}")
        params = (read_yaml(folder / "params.yaml") or {}).get("eigenspectrum")
        if not spectrum or spectrum.params.get("params.yaml", {}).get("eigenspectrum") != params:
            return False
        made.append(spectrum)
        outputs.append(f"metrics/runs/{method}/{seed}.eigenspectrum.json")
    # Another branch may have been checked out since, with its dvc.lock and not with its outputs.
    recorded = {path: found for stage in made for path, found in stage.outs.items()}
    if any(recorded.get(path) != digest(folder / path, "md5") for path in outputs):
        return False
    return all(present.get(path, found) == found for stage in made for path, found in stage.deps.items())


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


def collect(
    folder: Path, experiment: str, keys: dict[tuple[str, int], Key], *, once: bool = False, ours: bool = True
) -> int:
    """Write records of the finished runs of a clone.

    Only runs that were made with the plan, data and settings of their key count; others are passed over.

    Args:
        folder: The clone.
        experiment: Name of the experiment.
        keys: Method and seed of each wanted run -> its key.
        once: Whether to pass over those of which a record has been written before: who deletes it wants a new run.
        ours: Whether the clone is this project's own, where it is noted which records have been written.

    Returns:
        The number of records written.

    Raises:
        UserError: if a file of a run is damaged.
    """
    manifest = folder / MANIFEST
    pairs = [pair for pair in finished(folder, keys) if not once or not _noted(folder, *pair).exists()]
    if not pairs:
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
        if ours:
            write_text(_noted(folder, method, seed), "")
    return len(pairs)


def recorded_before(folder: Path, method: str, seed: int) -> bool:
    """Whether a record of a run has been written from this clone, of its present outputs or of earlier ones."""
    return any((folder / NOTED).glob(f"{method}-{seed}-{'[0-9a-f]' * 16}"))


def _noted(folder: Path, method: str, seed: int) -> Path:
    """The file that says that the present outputs of a run in a clone have been recorded."""
    metrics = folder / f"metrics/runs/{method}/{seed}.json"
    made = [digest(path) for path in (metrics, metrics.with_suffix(".eigenspectrum.json")) if path.exists()]
    return folder / NOTED / f"{method}-{seed}-{hashlib.sha256(' '.join(made).encode()).hexdigest()[:16]}"
