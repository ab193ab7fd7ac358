"""Errors that a user can fix, reported as one line on stderr with exit status 2 instead of a traceback."""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """A problem that the user can fix, such as a wrong parameter, a damaged file or a full disk.

    Its message is one line that says what is wrong, where, and how to fix it.
    """


class DivergenceError(UserError):
    """Training reached a loss that is NaN, infinite or absurdly large."""


#: What marks a note in the output of a stage; `pipeline.parallel` shows those of stages that succeed, too.
NOTE = ": note: "


def note(who: str, text: str) -> None:
    """Print something that a person should know and that stops nothing, as one line on stderr.

    Args:
        who: The stage or the command that says so.
        text: What it says.
    """
    print(f"{who}{NOTE}{text}", file=sys.stderr)


#: Number of a system error -> what to do about it.
FIXES = {
    errno.ENOENT: "restore it, e.g. with 'git checkout', and run again",
    errno.EISDIR: "it must be a file: move the folder away and run again",
    errno.ENOTDIR: "it must be a folder: move the file away and run again",
    errno.ELOOP: "its links lead back to itself: remove them and run again",
    errno.ENOSPC: "free some space there and run again",
    errno.EACCES: "fix the permissions there and run again",
    errno.EROFS: "it is read-only: choose another folder, or fix that, and run again",
}


def nearest(word: object, allowed: Iterable[object], show: int = 12) -> str:
    """Build the end of an error message about an unknown word: the closest allowed name, if any, and the allowed names.

    Args:
        word: The unknown word.
        allowed: The names that would have been valid.
        show: How many of them are listed at most.

    Returns:
        Text such as "did you mean 'sgd'? allowed: adam, sgd".
    """
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    listed = ", ".join(sorted(names)[:show]) + (", ..." if len(names) > show else "")
    return f"{hint}allowed: {listed}" if names else f"{hint}none is defined"


def run_stage(stage: str, main: Callable[[], None]) -> None:
    """Run the main function of a stage or command, and report errors that the user can fix in one line on stderr.

    UserError, OSError (such as a full disk or missing permission, reported with the path), lack of memory and lack of a
    home directory exit with status 2. Ctrl-C prints a line and exits with status 130. A closed standard output (as with
    `| head`) exits silently with status 141, as in a shell. Any other exception is a bug of the pipeline and keeps its
    traceback.

    Args:
        stage: The name with which the line begins.
        main: The function to run.
    """
    _fill_standard_streams()
    try:
        main()
        sys.stdout.flush()  # here, and not at the exit, where an error would be a traceback
    except KeyboardInterrupt:
        print(f"{stage}: interrupted; no partial output was left; run it again to resume", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        _let_go_of_unwritten_output()
        sys.exit(141)
    except UserError as error:
        line = " ".join(str(error).split())
    except OSError as error:
        _let_go_of_unwritten_output()
        where = f" {error.filename}" if error.filename else ""
        fix = FIXES.get(error.errno or 0, "free some space or fix the permissions there and run again")
        line = f"cannot read or write{where}: {error.strerror or error}; {fix}"
    except UnicodeDecodeError as error:
        near = error.object[max(0, error.start - 20) : error.start + 20]
        line = f"a file is not UTF-8 text (at {near!r}); save it as UTF-8"
    except (MemoryError, RuntimeError) as error:
        # pathlib and platformdirs (of DVC) say so where HOME is unset and the user's number has no name
        homeless = re.search("could not determine (the )?home directory", str(error), re.IGNORECASE)
        if not homeless and not memory_ended(error):
            raise
        line = f"not enough memory ({' '.join(str(error).split())[:200]}); choose smaller sizes, or run less at once"
        if homeless:
            line = "there is no home directory, for HOME is unset and the user unknown; set HOME to a folder of yours"
    else:
        return
    print(f"{stage}: {line}", file=sys.stderr)
    sys.exit(2)


def _let_go_of_unwritten_output() -> None:
    """Drop what standard output does not take: the flush at the exit would fail with the same error, and status 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def memory_ended(error: Exception) -> bool:
    """Whether Python, NumPy or PyTorch ran out of memory, on the host or on the GPU."""
    ended = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return ended or any(words in str(error) for words in ("allocate memory", "out of memory"))


def _fill_standard_streams() -> None:
    """Open every closed standard stream on the null device.

    Otherwise the next file to be opened would get the descriptor of a closed stream and receive what is printed, and
    progress bars would fail.
    """
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
