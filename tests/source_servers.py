"""Real servers on loopback for remote sources: files over http, repositories over git's own http backend."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

GIT_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.test",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.test",
    "GIT_AUTHOR_DATE": "2020-01-02T03:04:05Z",
    "GIT_COMMITTER_DATE": "2020-01-02T03:04:05Z",
}
COMMIT_TIME = 1577934245


def git(directory: Path, *arguments: str) -> str:
    """Run git on a repository of the test's; returns what it prints, stripped."""
    command = ["git", "-c", "protocol.file.allow=always", *arguments]
    return subprocess.run(
        command, cwd=directory, env=GIT_ENV, check=True, capture_output=True, text=True
    ).stdout.strip()


def make_repository(directory: Path, files: dict[str, str]) -> str:
    """A repository with one commit on ``main``; returns the commit."""
    directory.mkdir(parents=True)
    git(directory, "init", "-q", "-b", "main")
    return commit(directory, files, "first")


def commit(directory: Path, files: dict[str, str], message: str) -> str:
    """Add files and commit; returns the commit."""
    for name, text in files.items():
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", message)
    return git(directory, "rev-parse", "HEAD")


@dataclass
class Answer:
    """What a path of the server holds."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass
class SourceServer:
    """The server: ``files`` by path, repositories below ``repositories`` at ``/git/``.

    ``asked`` are the requests as ``METHOD path status``, ``bodies`` the paths whose content was sent.
    ``authorization`` is what the requests must carry, if set.
    """

    address: str
    repositories: Path
    files: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    authorization: str = ""
    ignores_conditions: bool = False
    protocol: str = ""

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"http://{self.address}{path}"


@contextmanager
def source_server(repositories: Path) -> Iterator[SourceServer]:
    """A running server, for the length of the block."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    listener.daemon_threads = True
    server = SourceServer(f"127.0.0.1:{listener.server_address[1]}", repositories)
    _Handler.servers[listener.server_address[1]] = server
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
        del _Handler.servers[listener.server_address[1]]


@contextmanager
def git_daemon(repositories: Path) -> Iterator[str]:
    """git's own daemon on loopback, one process for each connection; yields host and port."""
    command = ["git", "daemon", "--inetd", "--export-all", f"--base-path={repositories}"]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if connection.recv(1, socket.MSG_PEEK) == b"!":
                        return
                    subprocess.run(command, stdin=connection, stdout=connection, env=GIT_ENV, check=False)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        with socket.create_connection(listener.getsockname()) as last:
            last.sendall(b"!")
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    servers: dict[int, SourceServer] = {}  # noqa: RUF012 - one table for all

    @property
    def source(self) -> SourceServer:
        return self.servers[self.server.server_address[1]]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        source, path = self.source, urlsplit(self.path).path
        if source.authorization and self.headers.get("Authorization") != source.authorization:
            self._send(Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}))
        elif path.startswith("/git/"):
            self._backend()
        else:
            answer = source.files.get(path, Answer(b"no such file", 404))
            self._send(self._conditional(answer))

    def do_POST(self) -> None:
        self.do_GET()

    def _conditional(self, answer: Answer) -> Answer:
        etag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
        same = (etag and self.headers.get("If-None-Match") == etag) or (
            not etag and modified and self.headers.get("If-Modified-Since") == modified
        )
        return Answer(status=304, headers=answer.headers) if same and not self.source.ignores_conditions else answer

    def _send(self, answer: Answer) -> None:
        self.source.asked.append(f"{self.command} {self.path} {answer.status}")
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 304:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if answer.status == 200:
            self.source.bodies.append(self.path)
        if answer.status != 304:
            self.wfile.write(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)

    def _backend(self) -> None:
        """Answer by ``git http-backend`` (gitprotocol-http)."""
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = {
            **GIT_ENV,
            "GIT_PROJECT_ROOT": str(self.source.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": parts.path.removeprefix("/git"),
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.source.protocol or self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        self.source.asked.append(f"{self.command} {self.path} {status}")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
