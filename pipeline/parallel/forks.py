"""Run stages in forks of a process that has imported PyTorch. `stages.forks` is that process."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

#: The commands that are run in a fork: `python -m stages.train tag 1`, and nothing that a shell would change.
COMMAND = re.compile(r"python -m (?P<module>stages\.(?:train|eigenspectrum))(?P<arguments>( [\w.-]+)*)")
#: The variable in which DVC gives a command the name of its stage. The process that forks belongs to no stage.
STAGE = "DVC_STAGE"
#: The longest answer in bytes.
LONGEST = 1 << 12


class Forks:
    """Runs the stages of one folder in forks of a process, which is started when it is first needed.

    That process ends when `end` is called, or when this one ends.

    Args:
        folder: The folder in which the stages run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the process, unless it is running, so that it imports while the caller does something else.

        Args:
            environment: The environment of the stages; that of one stage alone is left out.
        """
        if not sys.platform.startswith("linux") or (self._process is not None and self._process.poll() is None):
            return
        self.end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - a module of this project
                [sys.executable, "-m", "stages.forks", str(theirs.fileno())],
                cwd=self.folder,
                env={name: value for name, value in environment.items() if name != STAGE},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # whatever is wrong, the command itself will say
            )
        self._connection = ours

    def run(self, command: str, folder: str, environment: Mapping[str, str]) -> int | None:
        """Run a command in a fork, with the standard streams of this process, and wait for its end.

        Args:
            command: The command, as dvc.yaml has it.
            folder: The folder to run it in.
            environment: Its whole environment.

        Returns:
            Its exit status, as `subprocess` gives it; or None if it was not run, because it is no command of a stage
            that is run in forks, or is for another Python or another folder, or because no process can be forked here.
        """
        match = COMMAND.fullmatch(command)
        python = shutil.which("python", path=environment.get("PATH"))
        if match is None or python is None or Path(python).parent != Path(sys.executable).parent:
            return None
        if Path(folder).resolve() != self.folder.resolve():
            return None
        request = {
            "module": match["module"],
            "arguments": match["arguments"].split(),
            "environment": dict(environment),
        }
        for _ in range(2):  # a process that is stale ends, and another is started
            self.start(environment)
            answer = self._ask(request)
            if "status" in answer:
                return int(answer["status"])
            if "stale" not in answer:
                break
            self.end()
        return None

    def _ask(self, request: Mapping[str, object], files: Sequence[int] = (0, 1, 2)) -> dict[str, Any]:
        """Send a request and return the answer, which is empty if the process has ended."""
        if self._connection is None:
            return {}
        with suppress(OSError):
            socket.send_fds(self._connection, [json.dumps(request).encode()], files)
            answer = self._connection.recv(LONGEST)
            return dict(json.loads(answer)) if answer else {}
        return {}

    def end(self) -> None:
        """End the process, if it runs."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.wait()
        self._process = self._connection = None
