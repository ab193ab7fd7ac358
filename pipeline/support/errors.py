"""What a person can fix: one line on stderr and exit status 2, never a traceback."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """A mistake in a parameter, a file or the machine's disk, told in one line: what, where, how to fix it."""


class DivergenceError(UserError):
    """Training met a loss that is NaN, infinite or absurdly large."""


def nearest(word: object, allowed: Iterable[object], show: int = 12) -> str:
    """'did you mean ...? ' where something is near, and the allowed names: the tail of an error line."""
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    listed = ", ".join(sorted(names)[:show]) + (", ..." if len(names) > show else "")
    return f"{hint}allowed: {listed}" if names else f"{hint}none is defined"


def run_stage(stage: str, main: Callable[[], None]) -> None:
    """Run `main`; turn what a person can fix into one line and exit status 2.

    UserError carries its own words. An OSError (a full disk, a folder without permission) is told with its path, and so is
    memory that does not suffice. Ctrl-C ends with a line and status 130. Where nobody reads on (`| head`) there is nobody to
    tell: status 141, as the shell's. Everything else is a fault of ours and keeps its traceback.
    """
    _fill_standard_streams()
    try:
        main()
    except KeyboardInterrupt:
        print(f"{stage}: interrupted; nothing was left half-written, run again to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again at its end
        sys.exit(141)
    except UserError as error:
        line = " ".join(str(error).split())
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        line = f"cannot read or write{where}: {error.strerror or error}; free or unlock that place and run again"
    except (MemoryError, RuntimeError) as error:
        if not _memory_ended(error):
            raise
        line = f"not enough memory ({' '.join(str(error).split())[:200]}); choose smaller sizes, or run less at once"
    else:
        return
    print(f"{stage}: {line}", file=sys.stderr)
    sys.exit(2)


def _memory_ended(error: Exception) -> bool:
    """Whether Python, NumPy or PyTorch got no more memory, of the machine or of its GPU."""
    ended = isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorError")
    return ended or any(words in str(error) for words in ("allocate memory", "out of memory"))


def _fill_standard_streams() -> None:
    """Lead those of the three standard streams that are closed to nothing: the next file to be opened would take the place of
    one, and get what is printed; and progress bars fail without."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
