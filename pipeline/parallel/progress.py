"""What a person sees while stages run: a line for each that runs, where the output is a terminal."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Any

from pipeline.parallel.worker import TOPIC


class Progress:
    """A block of lines below what is said, refreshed every second; nothing but what is said where stderr is no terminal."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._running: dict[str, tuple[str, float]] = {}
        self._drawn = 0
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        if self._shown:
            self._client.subscribe_topic(TOPIC, self._begun)
            threading.Thread(target=self._refresh, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        with self._guard:
            self._wipe()
        if self._shown:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self._client.unsubscribe_topic(TOPIC)

    def begun(self, stage: str, at: str) -> None:
        """A stage runs."""
        with self._guard:
            self._running[stage] = (at, time.monotonic())

    def ended(self, stage: str) -> None:
        """It no longer does."""
        with self._guard:
            self._running.pop(stage, None)

    def say(self, text: str) -> None:
        """Something that stays."""
        with self._guard:
            self._wipe()
            print(text, file=sys.stderr, flush=True)

    def _begun(self, event: tuple[float, dict[str, str]]) -> None:
        self.begun(event[1]["stage"], event[1]["at"])

    def _refresh(self) -> None:
        while not self._stop.wait(1):
            with self._guard:
                if self._stop.is_set():
                    return
                self._wipe()
                size = shutil.get_terminal_size()
                now = time.monotonic()
                rows = sorted(self._running.items(), key=lambda item: item[1][1])[: max(1, size.lines - 2)]
                for stage, (at, start) in rows:
                    place = "" if at in ("0", "here") else f"   {at}"
                    print(f"  {now - start:6.0f} s  {stage}{place}"[: size.columns - 1], file=sys.stderr)
                sys.stderr.flush()
                self._drawn = len(rows)

    def _wipe(self) -> None:
        if self._drawn:
            print(f"\033[{self._drawn}A\033[J", end="", file=sys.stderr)
            self._drawn = 0
