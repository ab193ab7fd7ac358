"""The process of a stage, from its first line on, before anything heavy is imported.

It ends with the DVC that started it: DVC, killed, leaves its command behind, which would train on beside the next one. And
its arithmetic is made portable, which must precede the import of PyTorch, NumPy and SciPy.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from pipeline.support.errors import run_stage

try:
    import psutil
except ImportError:  # every Python but the environment's
    print(
        f"{Path(sys.argv[0]).stem}: {sys.executable} lacks the project's packages; run 'source .venv/bin/activate' first",
        file=sys.stderr,
    )
    sys.exit(2)

#: What DVC sets for the commands that it runs, to the name of the stage.
STAGE = "DVC_STAGE"
#: What a process that runs DVC is called: DVC's own command or package, and what `pipeline.parallel` runs it in.
DVC = ("dvc", "pipeline.parallel.dvc_process")
#: Seconds between two looks at whether DVC is there.
INTERVAL = 0.5
#: The exit status of a process that ends with DVC, as of one that was told to terminate.
ENDED = 143


def begin(module: str) -> None:
    """Prepare this process, if `module` is the one that Python runs; to be called before all other imports of a stage.

    Ends the process with status 143 where the DVC that started it is gone, with a line and status 2 where the compute
    section of params.yaml is wrong.
    """
    if module == "__main__":
        end_with_dvc()
        stage = Path(sys.argv[0]).stem
        run_stage(stage, lambda: _prepare(stage))


def _prepare(stage: str) -> None:
    from pipeline.config.reading import read_sections
    from pipeline.support.portable import make_portable

    compute = read_sections().compute
    # The guarantee is for one thread of a CPU; elsewhere the fastest kernels may as well be taken.
    if compute.portable and compute.threads == 1 and not compute.device.startswith(("cuda", "mps")):
        reason = make_portable()
        if reason:
            print(f"{stage}: note: {reason}: compute.portable has no effect here", file=sys.stderr)


def end_with_dvc() -> None:
    """End this process as soon as the DVC that started it is gone: at once, where that is so already.

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
    """The process that runs DVC for this one: the nearest ancestor that does not itself run for the stage, as a shell in
    between does. None where DVC is gone: then the system has given this process to one that has nothing to do with it."""
    for ancestor in psutil.Process().parents():
        try:
            if ancestor.environ().get(STAGE) == stage:
                continue
            return ancestor if _runs_dvc(ancestor) else None
        except psutil.Error:  # it has just ended, or belongs to somebody else
            return None
    return None


def _runs_dvc(process: psutil.Process) -> bool:
    """By its name; and any Python in this session, where somebody's own program calls DVC's API."""
    if any(Path(word).name in DVC for word in process.cmdline()[:4]):
        return True
    return process.pid != 1 and Path(process.exe()).name.startswith("python") and os.getsid(process.pid) == os.getsid(0)
