"""Records: a committed JSON file for every finished run, results/<experiment>/runs/<method>-<seed>.json.

A record holds what the run measured and how it was made: the hashes of its plan and data, the commit, the machine and
the seconds. A run whose plan or data has changed since counts as not run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.analysis.runs import RunMetrics
from pipeline.config import DataPlan, RunPlan
from pipeline.config.sections import Eigenspectrum
from pipeline.handover.documents import checked, read_document
from pipeline.handover.runs import Record
from pipeline.support.errors import UserError
from pipeline.support.files import significant, write_text

RESULTS = Path("results")


@dataclass(frozen=True)
class Key:
    """What identifies a run besides its method and seed, as hashes (SHA-256).

    Attributes:
        plan: Hash of the run's resolved plan.
        data: Hash of the resolved plan of its data.
        eigenspectrum: Hash of the settings of its eigenspectrum; empty if the experiment has no eigenspectra.
    """

    plan: str
    data: str
    eigenspectrum: str

    @classmethod
    def of(cls, plan: RunPlan, data: DataPlan, eigenspectrum: Eigenspectrum | None) -> Key:
        """Compute the key of a run from its resolved plans; `eigenspectrum` is None if it has no eigenspectrum."""
        # The name of a method changes no number, and evaluating tasks long before their turn none but forgetting where a
        # task was best then, which takes that it was learnt before its turn: multi-task, by a fraction of a point.
        value = plan.model_dump(exclude_none=True, exclude={"method": True, "training": {"evaluate"}})
        return cls(
            _hash(value),
            _hash(data.model_dump(exclude_none=True)),
            _hash(_of_key(eigenspectrum)) if eigenspectrum else "",
        )


#: What is computed beside the eigenvalues and changes none of them. Of a record without it the eigenvalues still count.
BESIDE = {"prediction", "trace_probes", "blocks"}


def _of_key(settings: Eigenspectrum) -> dict[str, Any]:
    """The settings that make an eigenspectrum that one.

    `matrix` is left out where it is the Hessian: the first records were made before there was a choice.
    """
    hessian = settings.matrix == "hessian"
    return settings.model_dump(exclude=BESIDE | ({"matrix"} if hessian else set()))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def path_of(experiment: str, method: str, seed: int, project: Path = Path()) -> Path:
    """Return the path of a run's record in a project's folder; this one's if none is given."""
    return project / RESULTS / experiment / "runs" / f"{method}-{seed}.json"


def write_record(
    experiment: str,
    method: str,
    seed: int,
    key: Key,
    made: Mapping[str, Any],
    train: Mapping[str, Any],
    eigenspectrum: Mapping[str, Any] | None,
) -> None:
    """Write the record of a run.

    Args:
        experiment: Name of the experiment.
        method: Name of the method.
        seed: The seed.
        key: What identifies the run.
        made: How it was made: commit, images (SHA-256 of the tasks' manifest), machine and seconds.
        train: What the train stage measured, as in its file below metrics/runs/.
        eigenspectrum: What the eigenspectrum stage measured; None if the experiment has no eigenspectra.

    Raises:
        UserError: if the record does not fit its schema; nothing is written then.
    """
    path = path_of(experiment, method, seed)
    value: dict[str, Any] = {
        "method": method,
        "seed": seed,
        **{name: word for name, word in vars(key).items() if word},
        **made,
        **{name: measured for name, measured in train.items() if name not in ("alpha", "continual")},
    }
    if "alpha" in train:  # its mean over each task: the course within the tasks is a megabyte for twenty tasks
        value["alpha"] = [[[significant(float(x)) for x in np.mean(points, axis=0)]] for points in train["alpha"]]
    if eigenspectrum is not None:
        value["spectrum"] = eigenspectrum
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value[name], allow_nan=False)}" for name in sorted(value))
    checked(Record, value, path, "nothing was written")
    write_text(path, f"{{\n{lines}\n}}\n")


def read_record(experiment: str, method: str, seed: int, key: Key, project: Path = Path()) -> dict[str, Any] | None:
    """Read the record of a run from a project's folder; this one if none is given.

    Returns:
        The record, with `seconds` None if they are unknown. None if there is no record, or if it was made with another
        plan, other data or other settings of the eigenspectrum.

    Raises:
        UserError: if the file is damaged, or is the record of another method or seed.
    """
    path = path_of(experiment, method, seed, project)
    if not path.exists():
        return None
    fix = "restore it from Git, or delete it to run it again"
    record = read_document(Record, path, fix)
    if (record.method, record.seed) != (method, seed):
        raise UserError(f"{path}: is the record of {record.method}, seed {record.seed}; {fix}")
    if (record.plan, record.data, record.eigenspectrum or "") != (key.plan, key.data, key.eigenspectrum):
        return None
    return {"seconds": None, **record.plain()}


def as_run(record: Mapping[str, Any]) -> RunMetrics:
    """Convert a record to what `pipeline.analysis.tables` works on."""
    return RunMetrics(record["method"], record["seed"], record, record.get("spectrum"))
