"""One JSON file for every finished run, committed: results/<experiment>/runs/<method>-<seed>.json.

It holds what the run measured, and what it was: the hashes of its plan and its data, the commit, the machine, the seconds. A
run whose plan or data is another now counts as not run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.analysis.summary import RunMetrics
from pipeline.config import DataPlan, RunPlan
from pipeline.config.schema import Eigenspectrum
from pipeline.handover.documents import checked, read_document
from pipeline.handover.runs import Record
from pipeline.support.errors import UserError
from pipeline.support.files import significant, write_text

RESULTS = Path("results")


@dataclass(frozen=True)
class Key:
    """What makes a run that run: hashes of its resolved plan, of that of its data, and of the settings of its
    eigenspectrum, empty where an experiment has none."""

    plan: str
    data: str
    eigenspectrum: str

    @classmethod
    def of(cls, plan: RunPlan, data: DataPlan, eigenspectrum: Eigenspectrum | None) -> Key:
        """From the resolved plans."""
        # How a method is called, and what is evaluated beyond what metrics need, changes no number.
        value = plan.model_dump(exclude_none=True, exclude={"method": True, "training": {"evaluate"}})
        return cls(
            _hash(value),
            _hash(data.model_dump(exclude_none=True)),
            _hash(eigenspectrum.model_dump()) if eigenspectrum else "",
        )


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def path_of(experiment: str, method: str, seed: int) -> Path:
    """Of a record."""
    return RESULTS / experiment / "runs" / f"{method}-{seed}.json"


def write_record(
    experiment: str,
    method: str,
    seed: int,
    key: Key,
    made: Mapping[str, Any],
    train: Mapping[str, Any],
    eigenspectrum: Mapping[str, Any] | None,
) -> None:
    """Keep a run. made: commit, images (hash of the task's files), machine, seconds."""
    path = path_of(experiment, method, seed)
    value: dict[str, Any] = {
        "method": method,
        "seed": seed,
        **{name: word for name, word in vars(key).items() if word},
        **made,
        **{name: measured for name, measured in train.items() if name != "alpha"},
    }
    if "alpha" in train:  # the course within a task is a megabyte for twenty tasks
        value["alpha"] = [[[significant(float(x)) for x in np.mean(points, axis=0)]] for points in train["alpha"]]
    if eigenspectrum is not None:
        value["spectrum"] = eigenspectrum
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value[name], allow_nan=False)}" for name in sorted(value))
    checked(Record, value, path, "nothing was written")
    write_text(path, f"{{\n{lines}\n}}\n")


def read_record(experiment: str, method: str, seed: int, key: Key) -> dict[str, Any] | None:
    """The record of a run; None where there is none, or of another plan or data. Raises UserError for a damaged one."""
    path = path_of(experiment, method, seed)
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
    """As `pipeline.analysis.summary` takes it."""
    return RunMetrics(record["method"], record["seed"], record, record.get("spectrum"))
