"""What differs from run to run, and is no output of DVC."""

from __future__ import annotations

from pipeline.handover.documents import Document, Size

#: What a run ran on: see `pipeline.support.compute.machine`.
Machine = dict[str, str | int | bool]


class Log(Document):
    """logs/<stage>/<method>-<seed>.json: what differs from run to run."""

    started: str | None = None
    machine: Machine | None = None
    resumed: bool | None = None
    seconds: Size | None = None
    seconds_before: Size | None = None
