"""What ``builder du`` prints, against a server that answers as the engine does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tare.cli.main import cli
from tare.errors import InvalidArgument

STEP: dict[str, Any] = {
    "ID": "0f3a", "Parents": ["aa", "bb"], "Type": "regular", "Description": "RUN make\n  all", "InUse": False,
    "Shared": True, "Size": 1_500_000, "CreatedAt": "2026-05-30T12:07:14.5Z", "LastUsedAt": "2026-05-30T12:07:14.5Z",
    "UsageCount": 3, "Mutable": False,
}  # fmt: skip
MOUNT = STEP | {
    "ID": "c0de", "Parents": None, "Type": "exec.cachemount", "Description": "cache mount /c", "InUse": True,
    "Shared": False, "Size": 500, "Mutable": True,
}  # fmt: skip


class Server:
    """Answers every request with one document; remembers the request lines."""

    def __init__(self, path: Path) -> None:
        self.answer: object = [STEP, MOUNT]
        self.asked: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65536).decode().splitlines()[0])
                body = json.dumps(self.answer).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    serving = Server(tmp_path / "s")
    yield serving
    serving.close()


def tare(tmp_path: Path, *arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(cli, ["--host", f"unix://{tmp_path / 's'}", *arguments], input=text)


def test_the_table(server: Server, tmp_path: Path) -> None:
    lines = tare(tmp_path, "builder", "du").output.splitlines()
    assert lines[0].split("   ")[0] == "ID"
    assert lines[1].split()[:3] == ["0f3a", "true", "1.5MB*"]
    assert lines[2].split()[:3] == ["c0de*", "false", "500B"]
    assert [line.split() for line in lines[3:]] == [
        ["Shared:", "1.5MB"], ["Private:", "500B"], ["Reclaimable:", "1.5MB"], ["Total:", "1.5MB"]
    ]  # fmt: skip
    assert "/tare/build/cache" in server.asked[0]


def test_everything_about_a_record(server: Server, tmp_path: Path) -> None:
    text = tare(tmp_path, "builder", "du", "--verbose").output
    first, second, _ = text.split("\n\n")
    assert first.splitlines()[:4] == ["ID:           0f3a", "Parents:", " - aa", " - bb"]
    assert "Description:  RUN make all" in first, "on one line"
    assert "Parents" not in second
    assert "Reclaimable:  false" in second


def test_formats_and_filters(server: Server, tmp_path: Path) -> None:
    records = [json.loads(line) for line in tare(tmp_path, "builder", "du", "--format", "json").output.splitlines()]
    assert [(one["ID"], one["Reclaimable"], one["Parents"]) for one in records] == [
        ("0f3a", True, ["aa", "bb"]), ("c0de", False, [])
    ]  # fmt: skip
    chosen = ("--filter", "type=regular", "--filter", "inuse", "--format", "{{.ID}}:{{.Size}}")
    assert tare(tmp_path, "builder", "du", *chosen).output == "0f3a:1.5MB\nc0de:500B\n"
    assert "%22inuse%22" in server.asked[-1] and "%22type%22" in server.asked[-1]
    table = tare(tmp_path, "builder", "du", "--format", "table {{.ID}}\t{{.Parents}}").output
    assert [line.split() for line in table.splitlines()] == [["ID", "PARENTS"], ["0f3a", "aa,bb"], ["c0de*"]]


@pytest.mark.parametrize("option", ["colour", "shared~"])
def test_a_filter_needs_a_value(server: Server, tmp_path: Path, option: str) -> None:
    assert isinstance(tare(tmp_path, "builder", "du", "--filter", option).exception, InvalidArgument)
    assert server.asked == []


def test_pruning_asks_and_sends_what_was_given(server: Server, tmp_path: Path) -> None:
    server.answer = {"CachesDeleted": ["0f3a"], "SpaceReclaimed": 1500}
    refused = tare(tmp_path, "builder", "prune", text="n\n")
    assert refused.output.startswith("WARNING! This will remove all dangling build cache.\nAre you sure")
    assert (refused.exit_code, server.asked) == (1, [])
    done = tare(tmp_path, "builder", "prune", "-a", "--keep-storage", "1k", "--max-used-space", "2k", text="y\n")
    assert done.output.endswith("Deleted build cache objects:\n0f3a\n\nTotal reclaimed space: 1.5kB\n")
    (asked,) = server.asked
    for parameter in ("all=", "reserved-space=1024", "max-used-space=2048"):
        assert parameter in asked
