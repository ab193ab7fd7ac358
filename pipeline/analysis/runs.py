"""The metrics of single runs, as their files hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.handover.documents import read_document
from pipeline.handover.runs import Trained, check_tasks
from pipeline.handover.spectra import Spectra
from pipeline.support.errors import UserError


@dataclass(frozen=True)
class RunMetrics:
    """The contents of the two JSON files of one run.

    Attributes:
        method: The method of the run.
        seed: Its seed.
        train: The metrics of its training, as in metrics/runs/<method>/<seed>.json.
        eigenspectrum: Its eigenspectrum, as in <seed>.eigenspectrum.json beside it; None if it is missing.
    """

    method: str
    seed: int
    train: Mapping[str, Any]
    eigenspectrum: Mapping[str, Any] | None


def read_runs(
    folder: Path, methods: Sequence[str], seeds: Sequence[int]
) -> tuple[list[RunMetrics], list[tuple[str, int, str]]]:
    """Read the configured runs, and no others: the files of methods that were removed may still be there.

    Args:
        folder: The folder with the files of all runs, metrics/runs.
        methods: The configured methods.
        seeds: The configured seeds.

    Returns:
        The runs that have finished training, and what is missing, as method, seed and stage ("train" or
        "eigenspectrum").

    Raises:
        UserError: if a file is damaged, the two files of a run do not have the same tasks, or no run has finished.
    """
    runs: list[RunMetrics] = []
    missing: list[tuple[str, int, str]] = []
    for method in methods:
        for seed in seeds:
            metrics, spectrum = (folder / method / f"{seed}{kind}.json" for kind in ("", ".eigenspectrum"))
            trained, spectra = None, None
            if metrics.exists():
                trained = read_document(Trained, metrics, f"run 'dvc repro train@{method}-{seed}'")
            else:
                missing.append((method, seed, "train"))
            fix = f"run 'dvc repro eigenspectrum@{method}-{seed}'"
            if spectrum.exists():
                spectra = read_document(Spectra, spectrum, fix)
            else:
                missing.append((method, seed, "eigenspectrum"))
            if trained is not None:
                check_tasks(trained, spectra, spectrum, fix)
                runs.append(RunMetrics(method, seed, trained.plain(), spectra.plain() if spectra else None))
    if not runs:
        raise UserError(f"{folder}: no run is there; run 'dvc repro'")
    return runs, missing
