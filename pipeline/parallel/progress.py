"""Progress on stderr: a message for each stage that ends and, on a terminal, a line for each stage that is running."""

from __future__ import annotations

import contextlib
import sys
import threading
from types import TracebackType
from typing import Any

from rich import progress
from rich.console import Console

from pipeline.parallel.worker import TOPIC


class Progress:
    """A live block of the running stages below the messages; only the messages if stderr is not a terminal.

    Args:
        client: The Dask client whose workers announce each stage that they begin.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._shown = sys.stderr.isatty()
        self._block = progress.Progress(
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
            refresh_per_second=1,
            transient=True,
            redirect_stdout=False,
            disable=not self._shown,
        )
        self._tasks: dict[str, progress.TaskID | None] = {}
        self._guard = threading.Lock()

    def __enter__(self) -> Progress:
        self._block.start()
        if self._shown:
            self._client.subscribe_topic(TOPIC, lambda event: self.begun(event[1]["stage"], event[1]["at"]))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._block.stop()
        if self._shown:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self._client.unsubscribe_topic(TOPIC)

    def begun(self, stage: str, at: str) -> None:
        """Show a stage as running.

        Args:
            stage: Name of the stage.
            at: Name of the worker, shown unless it is "0" (the worker of a local cluster) or "here" (this process).
        """
        with self._guard:
            if stage not in self._tasks:  # a worker's message may arrive after its result
                self._tasks[stage] = self._block.add_task(stage if at in ("0", "here") else f"{stage}   {at}")

    def ended(self, stage: str, text: str) -> None:
        """Stop showing a stage as running, and print how it ended.

        Args:
            stage: Name of the stage.
            text: The message to print.
        """
        with self._guard:
            task = self._tasks.setdefault(stage, None)
            if task is not None:
                self._block.remove_task(task)
        print(text, file=sys.stderr, flush=True)  # above the block
