"""What is shown while stages run."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.parallel.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Client:
    """Stands for Dask's: tells what a worker begins."""

    begun: Callable[[tuple[float, dict[str, str]]], None]

    def subscribe_topic(self, topic: str, handler: Callable[[Any], None]) -> None:
        self.begun = handler

    def unsubscribe_topic(self, topic: str) -> None:
        pass


def test_a_terminal_shows_what_runs_and_keeps_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    client = Client()

    def shown() -> str:
        """What was written since the last call, without the codes of the terminal."""
        text = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", terminal.getvalue())
        terminal.seek(0)
        terminal.truncate()
        return text

    with Progress(client) as progress:
        client.begun((0.0, {"stage": "train@tag-1", "at": "host-2"}))
        assert "train@tag-1   host-2" in shown()
        progress.ended("plan", "plan: 1.0 s   (1 of 2)")
        client.begun((0.0, {"stage": "plan", "at": "0"}))  # too late
        text = shown()
        assert "plan: 1.0 s   (1 of 2)\n" in text
        assert "plan\n" not in text
        progress.ended("train@tag-1", "train@tag-1: 2.0 s   (2 of 2)")
        shown()
        client.begun((0.0, {"stage": "figures", "at": "0"}))
        text = shown()
    assert "figures" in text
    assert "train" not in text


def test_where_there_is_no_terminal_only_lines_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Client()) as progress:
        progress.begun("plan", "here")
        progress.ended("plan", "plan: 1.0 s   (1 of 2)")
    assert capsys.readouterr() == ("", "plan: 1.0 s   (1 of 2)\n")
