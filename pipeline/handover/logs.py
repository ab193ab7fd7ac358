"""Schema of the files in logs/, which hold what differs each time a run is repeated and are not DVC outputs."""

from __future__ import annotations

from pathlib import Path

from pipeline.handover.documents import Document, Sha256, Size, read_document
from pipeline.support.files import digest

#: The hardware and software that a run used; see `pipeline.support.compute.machine`.
Machine = dict[str, str | int | bool]


class Log(Document):
    """logs/<stage>/<method>-<seed>.json: when, where and for how long a stage worked on a run.

    Attributes:
        started: Local time at which the process started, in ISO 8601.
        machine: The hardware and software that it used.
        resumed: Whether it resumed a run that had been interrupted.
        seconds: Wall-clock time in all, including `seconds_before`.
        seconds_before: Wall-clock time that earlier, interrupted processes spent on the state that was resumed.
        metrics: SHA-256 of the file of metrics that it wrote, which tells the run that the log is of.
    """

    started: str | None = None
    machine: Machine | None = None
    resumed: bool | None = None
    seconds: Size | None = None
    seconds_before: Size | None = None
    metrics: Sha256 | None = None


def read_log(path: Path, metrics: Path, fix: str) -> Log:
    """Read the log of a run.

    DVC restores metrics from its cache without running anything; the log that is there is then of another run.

    Args:
        path: The log.
        metrics: The file of metrics that the stage wrote.
        fix: What the user can do if the log is damaged; ends the error message.

    Returns:
        The log; an empty one if there is none, or if it is of a run with other metrics.

    Raises:
        UserError: if it is damaged.
    """
    if not path.exists():
        return Log()
    log = read_document(Log, path, fix)
    other = log.metrics is not None and (not metrics.exists() or log.metrics != digest(metrics))
    return Log() if other else log
