"""Schema of the files in logs/, which hold what differs each time a run is repeated and are not DVC outputs."""

from __future__ import annotations

from pipeline.handover.documents import Document, Size

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
    """

    started: str | None = None
    machine: Machine | None = None
    resumed: bool | None = None
    seconds: Size | None = None
    seconds_before: Size | None = None
