"""Download a file: resume an interrupted transfer, retry, verify the checksum, and only then give it its final name."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from pipeline.support.errors import UserError
from pipeline.support.files import digest

#: Seconds to wait before each retry of a mirror; there are as many retries as entries.
PAUSES = (1.0, 4.0, 15.0)
#: Seconds that the server may stay silent.
TIMEOUT = 60.0
_CHUNK = 1 << 16
#: HTTP status codes after which a retry of the same address may succeed: requests to slow down, and server errors.
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class _FailedError(Exception):
    """One attempt failed. `again` says whether a retry of the same address may succeed."""

    def __init__(self, reason: str, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def download(
    urls: Sequence[str],
    path: Path,
    checksum: str,
    *,
    fix: str = "run again: it goes on where it stopped",
    pauses: Sequence[float] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    timeout: float = TIMEOUT,
) -> None:
    """Download a file from the first mirror that delivers the right bytes.

    An existing file is left as it is and not verified again. The bytes of an interrupted transfer stay in `<name>.part`
    and are not requested again. If several processes want the same file, one downloads it and the others wait.

    Args:
        urls: Mirrors of the same bytes, tried in order; http or https.
        path: Where to put the file. Its folder is created.
        checksum: Algorithm and hexadecimal digest, as in "md5:..." or "sha256:...".
        fix: What the user can do if it fails; ends the error message.
        pauses: Seconds to wait before each retry of a mirror; None for `PAUSES`.
        sleep: Called with each pause (0.0 before the first attempt); tests replace it.
        timeout: Seconds that the server may stay silent.

    Raises:
        UserError: if no mirror delivered the right bytes. The message gives the reason for each.
        ValueError: if an address is neither http nor https.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists():  # another process may have downloaded it while this one waited for the lock
            _download(urls, path, checksum, fix, PAUSES if pauses is None else pauses, sleep, timeout)


def _download(
    urls: Sequence[str],
    path: Path,
    checksum: str,
    fix: str,
    pauses: Sequence[float],
    sleep: Callable[[float], None],
    timeout: float,
) -> None:
    part = path.with_name(path.name + ".part")
    reasons = []
    for url in urls:
        for pause in (0.0, *pauses):
            sleep(pause)
            try:
                _one_try(url, part, checksum, timeout)
            except _FailedError as failed:
                reason = f"{url}: {failed}"
                if not failed.again:
                    break
            else:
                part.replace(path)
                return
        reasons.append(reason)
    raise UserError(f"cannot download {path.name} ({'; '.join(reasons)}); {fix}")


def _one_try(url: str, part: Path, checksum: str, timeout: float) -> None:
    """Download what `part` still lacks, and verify it."""
    have = _size(part)
    whole = False
    while not whole:
        before, start = _size(part), 0
        total: int | None = None
        for start, total, chunks in _answers(url, before, timeout):
            _append(part, start, total, chunks)
        size = _size(part)
        whole = total is None or size >= total
        # A proxy may send a range in several pieces: the next one is asked for as long as there is one.
        if not whole and not (start and size > before):
            raise _FailedError(f"ended after {size:,} of {total:,} bytes", again=True)
    algorithm, _, wanted = checksum.partition(":")
    found = digest(part, algorithm)
    if found != wanted:
        # Wrong bytes are never resumed. If some came from an earlier attempt, those may be the wrong ones, so a retry
        # from the beginning is worthwhile.
        part.unlink()
        raise _FailedError(f"{algorithm} is {found}, expected {wanted}", again=have > 0)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(part: Path, start: int, total: int | None, chunks: Iterator[bytes]) -> None:
    """Write what a server sends behind the first `start` bytes of a file."""
    with (
        part.open("ab" if start else "wb", buffering=0) as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
    ):
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                try:
                    left = left[file.write(left) :]
                except OSError as error:  # of a full disk; it names no file, and the folder here is not the project's
                    raise OSError(error.errno, error.strerror, str(part)) from error
            bar.update(len(chunk))


def _answers(url: str, have: int, timeout: float) -> Iterator[tuple[int, int | None, Iterator[bytes]]]:
    """Request a file from byte `have` on; yield (first byte, total size or None, chunks) of the response.

    Yields nothing if the server answers that there is nothing beyond the bytes already here (status 416).
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url}: neither http nor https")
    asked = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - checked above
    answer = _open(asked, have, timeout)
    if answer is None:
        return
    with answer:
        length = answer.headers.get("Content-Length", "").strip()
        start = _first_byte(answer.headers.get("Content-Range")) if answer.status == 206 else 0
        if start not in (0, have):
            raise _FailedError("the server sent a different range than requested", again=False)
        # A proxy may send less of the range than was asked for: the rest is then asked for again.
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2].strip() if answer.status == 206 else ""
        total = int(whole) if whole.isdecimal() else start + int(length) if length.isdecimal() else None
        yield start, total, _chunks(answer)


def _open(asked: urllib.request.Request, have: int, timeout: float) -> http.client.HTTPResponse | None:
    """Open the address; None if the server answers that there is nothing beyond byte `have` (status 416)."""
    try:
        opened: http.client.HTTPResponse = urllib.request.urlopen(asked, timeout=timeout)  # noqa: S310 - checked before
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:
            return None
        raise _FailedError(f"HTTP {error.code} {error.reason}", again=error.code in _PASSING) from None
    except urllib.error.URLError as error:
        raise _FailedError(f"no connection ({error.reason})", again=True) from None
    except (OSError, http.client.HTTPException) as error:  # urllib wraps most OSErrors, but not those of the answer
        raise _FailedError(f"the connection broke ({error!r})", again=True) from None
    return opened


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in chunks. A network error is caught here, so that it cannot be mistaken for one of the disk."""
    while True:
        try:
            chunk = answer.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _FailedError(f"the connection broke ({error!r})", again=True) from None
        if not chunk:
            return
        yield chunk


def _first_byte(content_range: str | None) -> int:
    """The a of a Content-Range header "bytes a-b/total", or -1 if there is none."""
    unit, _, rest = (content_range or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else -1
