"""What the process of a stage sets up first, before anything heavy is imported.

The process is made to end with the DVC that started it: when DVC is killed, the command that it started lives on, and
would train alongside the next one. And arithmetic is made portable, which must happen before PyTorch, NumPy and SciPy
are imported.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from pipeline.support.errors import UserError, nearest, note, run_stage

try:
    import psutil
except ImportError:  # this is not the Python of the project's environment
    print(
        f"{Path(sys.argv[0]).stem}: {sys.executable} lacks the project's packages; run 'source .venv/bin/activate' first",
        file=sys.stderr,
    )
    sys.exit(2)

#: The environment variable in which DVC gives the commands that it runs the name of their stage.
STAGE = "DVC_STAGE"
#: The arguments that a stage takes, where these are not a method and a seed.
OPTIONS: dict[str, tuple[str, ...]] = {
    "plan": ("--check",), "download": (), "split": (), "summarize": (), "figures": (),
}  # fmt: skip
#: Names by which a process that runs DVC is recognised: DVC's command or package, a module of `pipeline.parallel`, and the
#: process that forks stages for that module, which ends with it.
DVC = ("dvc", "pipeline.parallel.dvc_process", "stages.forks")
#: Seconds between two checks whether DVC is still running.
INTERVAL = 0.5
#: The exit status of a process that ends with DVC, the same as after SIGTERM (128 + 15).
ENDED = 143


def begin(module: str) -> None:
    """Prepare this process, if `module` is the one that Python runs. Call it before all other imports of a stage.

    It ends the process with status 143 if the DVC that started it is gone, and with a line on stderr and status 2 if
    an argument is one that the stage does not take, or if the sections of params.yaml that stages read themselves
    (compute and eigenspectrum) are wrong. With --help alone it prints what the stage does, and ends with status 0.

    Args:
        module: The `__name__` of the module that calls it.
    """
    if module == "__main__":
        end_with_dvc()
        stage = Path(sys.argv[0]).stem
        run_stage(stage, lambda: _prepare(stage))


def _refuse_unknown_arguments(stage: str) -> None:
    """Raise UserError if a stage is given an argument that it does not take: it would run as if there were none."""
    words = sys.argv[1:]
    if words == ["--help"] and (told := sys.modules["__main__"].__doc__):
        print(told.strip())
        sys.exit()
    if stage not in OPTIONS:
        return
    for word in words:
        if word not in OPTIONS[stage]:
            raise UserError(f"unknown argument '{word[:80]}'; {nearest(word, (*OPTIONS[stage], '--help'))}")


def _refuse_other_code() -> None:
    """Raise UserError if this is not the code of the current folder, whose hash DVC records as what was run."""
    here, code = Path.cwd() / "stages/process.py", Path(__file__)
    if here.exists() and here.resolve() != code.resolve():
        raise UserError(
            f"this would run the code of {code.resolve().parents[1]}, not of this folder; unset PYTHONSAFEPATH"
        )


def _prepare(stage: str) -> None:
    _refuse_other_code()
    _refuse_unknown_arguments(stage)
    if reason := arithmetic()[1]:
        note(stage, f"{reason}: compute.portable has no effect here")


def arithmetic(only_ask: bool = False) -> tuple[bool, str]:
    """Make the arithmetic of this process portable, if params.yaml asks for it.

    Args:
        only_ask: Change nothing.

    Returns:
        Whether it is asked for; and, where this machine cannot be made portable, the reason.

    Raises:
        UserError: if the sections of params.yaml that stages read themselves are wrong.
    """
    from pipeline.config.reading import read_sections
    from pipeline.support.portable import make_portable, obstacle

    compute = read_sections().compute
    # Portability is guaranteed for a single CPU thread only; otherwise the fastest kernels may as well be used.
    if not compute.portable or compute.threads > 1 or compute.device.startswith(("cuda", "mps")):
        return False, ""
    return True, obstacle() if only_ask else make_portable()


def end_with_dvc() -> None:
    """End this process, with status 143, as soon as the DVC that started it is gone; at once if it is gone already.

    A process that DVC did not start is left alone.
    """
    stage = os.environ.get(STAGE)
    if stage is None:
        return
    dvc = _starter(stage)
    if dvc is None:
        print(f"{stage}: the DVC that started this has ended, so nothing is run", file=sys.stderr)
        os._exit(ENDED)

    def watch() -> None:
        while dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE:
            time.sleep(INTERVAL)
        os._exit(ENDED)

    threading.Thread(target=watch, name="end with DVC", daemon=True).start()


def _starter(stage: str) -> psutil.Process | None:
    """The process of the DVC that started this one, or None if it is gone.

    It is the nearest ancestor that is not part of the stage itself, as a shell in between would be. If DVC is gone, the
    system has given this process a new parent, which has nothing to do with it.
    """
    for ancestor in psutil.Process().parents():
        try:
            if ancestor.environ().get(STAGE) == stage:
                continue
            return ancestor if _runs_dvc(ancestor) else None
        except psutil.Error:  # the ancestor has just ended, or belongs to another user
            return None
    return None


def _runs_dvc(process: psutil.Process) -> bool:
    """Whether a process runs DVC, judged by its name.

    Any Python in this process's session counts as well: it may be a program that calls DVC's API.
    """
    if any(Path(word).name in DVC for word in process.cmdline()[:4]):
        return True
    return process.pid != 1 and Path(process.exe()).name.startswith("python") and os.getsid(process.pid) == os.getsid(0)
