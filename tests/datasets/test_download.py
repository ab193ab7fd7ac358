from __future__ import annotations

import hashlib
import http.server
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets.download import download
from pipeline.datasets.local import OfficialFile, fetched_files
from pipeline.support.errors import UserError

BODY = bytes(range(256)) * 2000
MD5 = "md5:" + hashlib.md5(BODY, usedforsecurity=False).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `body`, or what `bodies` has for a path. `faults` are used up first: a status, or "cut" for half the body.

    Of a range it sends `most` bytes at most.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[int | str] = []
        self.body = BODY
        self.bodies: dict[str, bytes] = {}
        self.ranges = True
        self.length: str | None = None
        self.most: int | None = None
        self.asked: list[str | None] = []

    def url(self, name: str = "file") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        asked = self.headers.get("Range")
        server.asked.append(asked)
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
            return
        body = server.bodies.get(self.path, server.body)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if start >= len(body):
            self.send_error(416)
            return
        piece = body[start:][: server.most if start else None]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{start + len(piece) - 1}/{len(body)}")
        self.send_header("Content-Length", server.length or str(len(piece)))
        self.end_headers()
        self.wfile.write(piece[: len(piece) // 2] if fault == "cut" else piece)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(urls: list[str], path: Path, checksum: str = MD5, retries: int = 2) -> list[float]:
    """Download without waiting; the pauses that would have been made."""
    slept: list[float] = []
    download(urls, path, checksum, pauses=[1.0, 2.0, 3.0][:retries], sleep=slept.append, timeout=300)
    return [pause for pause in slept if pause]


def beside_the_lock(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("checksum", [MD5, SHA256], ids=["md5", "sha256"])
def test_a_whole_file_arrives_and_leaves_nothing_beside_it(server: Server, tmp_path: Path, checksum: str) -> None:
    path = tmp_path / "new" / "file.gz"
    assert get([server.url()], path, checksum) == []
    assert path.read_bytes() == BODY
    assert beside_the_lock(path.parent) == [path]


def test_a_truncated_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.faults = ["cut"]
    assert get([server.url()], tmp_path / "file") == [1.0]
    assert server.asked == [None, f"bytes={len(BODY) // 2}-"]
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_later_run_goes_on_where_the_earlier_one_stopped(server: Server, tmp_path: Path) -> None:
    server.faults = ["cut"]
    with pytest.raises(UserError, match="ended after 256,000 of 512,000 bytes"):
        get([server.url()], tmp_path / "file", retries=0)
    assert not (tmp_path / "file").exists()
    get([server.url()], tmp_path / "file")
    assert server.asked[-1] == "bytes=256000-"
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_range_that_comes_in_pieces_is_put_together(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(BODY[:2000])
    server.most = 100_000
    assert get([server.url()], tmp_path / "file", retries=0) == []
    assert (tmp_path / "file").read_bytes() == BODY
    assert len(server.asked) == 6


def test_a_server_that_cannot_resume_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    server.faults, server.ranges = ["cut"], False
    get([server.url()], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_part_that_was_whole_already_is_only_verified(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(BODY)
    get([server.url()], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * 600_000], ids=["short", "too long"])
def test_a_damaged_part_is_thrown_away_and_fetched_again(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "file.part").write_bytes(left)
    get([server.url()], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


def test_wrong_bytes_are_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.body = b"something else"
    with pytest.raises(UserError, match=r"cannot download file \(http.*: md5 is .*, expected .*\); run again"):
        get([server.url()], tmp_path / "file")
    assert beside_the_lock(tmp_path) == []
    assert len(server.asked) == 1


def test_a_mirror_stands_in_for_one_that_has_lost_the_file(server: Server, tmp_path: Path) -> None:
    server.faults = [404]
    assert get([server.url("lost"), server.url("mirror")], tmp_path / "file") == []
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_404_everywhere_is_one_line_and_not_tried_again(server: Server, tmp_path: Path) -> None:
    server.faults = [404, 404]
    with pytest.raises(UserError, match=r"/a: HTTP 404 Not Found; http.*/b: HTTP 404 Not Found\); run again"):
        get([server.url("a"), server.url("b")], tmp_path / "file")
    assert beside_the_lock(tmp_path) == []
    assert len(server.asked) == 2


def test_a_500_that_heals_is_waited_for(server: Server, tmp_path: Path) -> None:
    server.faults = [500, 503]
    assert get([server.url()], tmp_path / "file") == [1.0, 2.0]
    assert (tmp_path / "file").read_bytes() == BODY


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with pytest.raises(UserError, match=r"no connection .*refused"):
            get([f"http://127.0.0.1:{taken.getsockname()[1]}/file"], tmp_path / "file")
    assert beside_the_lock(tmp_path) == []


def test_a_length_that_is_no_number_is_only_not_shown(server: Server, tmp_path: Path) -> None:
    server.length = "10, 10"
    get([server.url()], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_connection_that_breaks_before_the_answer_is_tried_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib wraps most errors of a connection in its own, but not one of TLS while it waits for the answer."""
    opened, errors = urllib.request.urlopen, [ssl.SSLEOFError(8, "EOF occurred in violation of protocol")]

    def breaking(*arguments: Any, **named: Any) -> Any:
        if errors:
            raise errors.pop()
        return opened(*arguments, **named)

    monkeypatch.setattr(urllib.request, "urlopen", breaking)
    assert get([server.url()], tmp_path / "file") == [1.0]
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_of_the_cache_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        get([server.url()], tmp_path / "file")
    assert caught.value.filename == str(tmp_path / "file.part")


def test_only_the_web_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    with pytest.raises(ValueError, match="neither http nor https"):
        get([(tmp_path / "secret").as_uri()], tmp_path / "file")


def test_the_files_of_a_dataset_are_kept_in_the_users_cache(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server.bodies = {"/a": b"first", "/b": b"second"}
    files = [
        OfficialFile((server.url(name),), "sha256:" + hashlib.sha256(body).hexdigest(), (f"Raw/{name}.gz",))
        for name, body in (("a", b"first"), ("b", b"second"))
    ]
    paths = fetched_files("letters", files, folders=False)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "tag-pipeline/Raw/a.gz",
        "tag-pipeline/Raw/b.gz",
    ]
    assert [path.read_bytes() for path in paths] == [b"first", b"second"]
    assert fetched_files("letters", files, folders=False) == paths
    assert len(server.asked) == 2


def test_of_two_that_want_the_same_file_one_fetches_it(server: Server, tmp_path: Path) -> None:
    threads = [threading.Thread(target=get, args=([server.url()], tmp_path / "file.gz")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file.gz").read_bytes() == BODY
    assert len(server.asked) == 1
