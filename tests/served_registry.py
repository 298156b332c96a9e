"""``tare registry serve`` as a process, and requests to it."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from engine_process import EngineProcess

SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """An answer with its body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the only error, as the specification has it."""
        (error,) = self.document["errors"]
        return str(error["code"])


class ServedRegistry:
    """A registry from the beginning of the block to its end, on any free port of loopback."""

    def __init__(self, engine: EngineProcess, *arguments: str) -> None:
        command = engine.tare_command("registry", "serve", "--json", "--address", "127.0.0.1:0", *arguments)
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=engine.environment()
        )
        self._changed = threading.Condition()
        self.visits: list[dict[str, Any]] = []
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(self._process.communicate(timeout=SECONDS)[1])
        self.opened = json.loads(line)
        self.address = str(self.opened["address"])
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> ServedRegistry:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self.end() == 0

    def end(self, number: int = signal.SIGINT) -> int:
        """End the command by a signal; returns its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        status = self._process.wait(SECONDS)
        self._reader.join()
        assert self._process.stdout is not None and self._process.stderr is not None
        self._process.stdout.close()
        self._process.stderr.close()
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.visits.append(json.loads(line))
                self._changed.notify_all()

    def wait_for_visit(self, **wanted: object) -> dict[str, Any]:
        """The first request that was told with these members."""

        def find() -> dict[str, Any] | None:
            return next((one for one in self.visits if wanted.items() <= one.items()), None)

        with self._changed:
            assert self._changed.wait_for(find, SECONDS), (wanted, self.visits)
        found = find()
        assert found is not None
        return found

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One plain request; underscores in the names of headers are hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def ask_tls(self, path: str, context: ssl.SSLContext, **headers: str) -> Answer:
        """One request over TLS."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=SECONDS, context=context)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """All that comes back for any bytes, up to the end of the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as connection:
            connection.sendall(request)
            answer = b""
            while data := connection.recv(65536):
                answer += data
            return answer
