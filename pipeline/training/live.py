"""The file in which a run can be watched while it trains: a table with a row for each task that it has learnt."""

from __future__ import annotations

from pathlib import Path

from pipeline.support.files import write_text
from pipeline.training.recorder import Recorder


class Live:
    """Keeps the table of a run up to date, as tab-separated values.

    Its columns: `task` (from 1), `average_accuracy` of the tasks learnt so far, the accuracy of each of them as
    `task_1` and so on (fractions; empty for tasks that come later), `train_loss` (mean over the steps of the task, in
    nats) and `seconds` (that the task took, with its evaluation). The whole file is written each time, under a
    temporary name, from what the run has measured: one that resumes leaves no task out and has none twice.

    Args:
        path: The file; missing folders are created.

    Attributes:
        failure: Why the file could not be written the last time, or None. A run does not end because of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure: str | None = None

    def write(self, recorder: Recorder) -> None:
        """Write the table of what has been measured so far."""
        accuracy, course = recorder.record.accuracy, recorder.record.course()
        tasks = len(accuracy[0])
        lines = [
            ["task", "average_accuracy", *(f"task_{task}" for task in range(1, tasks + 1)), "train_loss", "seconds"]
        ]
        for task, (average, (loss, seconds)) in enumerate(zip(course, recorder.costs, strict=True), start=1):
            learnt = [f"{value:.6f}" for value in accuracy[task][:task]]
            later = [""] * (tasks - task)
            lines.append([str(task), f"{average:.6f}", *learnt, *later, f"{loss:.6g}", f"{seconds:.3f}"])
        try:
            write_text(self.path, "".join("\t".join(line) + "\n" for line in lines))
        except OSError as error:
            self.failure = str(error.strerror or error)
        else:
            self.failure = None
