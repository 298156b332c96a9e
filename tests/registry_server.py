"""A real registry on loopback: Debian's ``docker-registry``, plain or with TLS and users, with a directory of its own.

::

    with RegistryServer() as registry:
        docker("push", f"{registry.address}/app:1")

    authority = Authority(tmp_path)
    with RegistryServer(tls=authority.issue("server"), users={"ann": "secret"}) as registry:
        ...
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from certificates import Certificate

START_SECONDS = 60
STOP_SECONDS = 60
EPHEMERAL = 32768  # from here on the kernel gives ports to whoever connects
_UNPACKED = Path(__file__).resolve().parents[1] / ".tools/bin/docker-registry"  # by scripts/host-packages.sh


def registry_program() -> str:
    """The docker-registry command."""
    found = shutil.which("docker-registry") or shutil.which(_UNPACKED)
    assert found is not None, "no docker-registry: run `make setup`"
    return found


def free_port() -> int:
    """A port of loopback that nobody has, and that no outgoing connection gets: a server can come back to it."""
    while True:
        port = random.randrange(20000, EPHEMERAL)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class RegistryServer:
    """One registry; its content stays over ``stop`` or ``kill`` and ``start``, and goes at the end of the block.

    ``tls`` makes it speak https only, ``client_authority`` lets in only clients with a certificate of that authority,
    ``users`` (passwords by name) only those who log in (basic). ``environment`` adds settings of docker-registry
    (``REGISTRY_…``).
    """

    def __init__(
        self,
        *,
        tls: Certificate | None = None,
        client_authority: Path | None = None,
        users: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="registry-"))
        self.port = free_port()
        self.scheme = "https" if tls is not None else "http"
        self._host = host
        self._environment = dict(environment or {})
        self._config = self.directory / "config.json"
        self._config.write_text(json.dumps(self._settings(tls, client_authority, users)))
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lines: list[str] = []

    @property
    def address(self) -> str:
        """``127.0.0.1:<port>``: what stands before the first slash of the names of its images."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Scheme and address."""
        return f"{self.scheme}://{self.address}"

    @property
    def content(self) -> Path:
        """Where the registry keeps its files."""
        return self.directory / "content"

    @property
    def log(self) -> str:
        """What the registry has said so far; a line for each request it answered."""
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def stopped(self) -> bool:
        """Whether it was stopped or killed, and not started since."""
        return self._process is None

    def requests(self, method: str = "") -> list[str]:
        """``METHOD path status`` of the requests answered so far, in the order of their answers."""
        found = []
        for line in list(self._lines):
            if not line.startswith("{"):
                continue
            entry = json.loads(line)
            if "http.response.status" in entry and entry.get("http.request.method", "").startswith(method):
                uri = entry["http.request.uri"]
                found.append(f"{entry['http.request.method']} {uri} {entry['http.response.status']}")
        return found

    @contextlib.contextmanager
    def asked(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to one plain request, for the time of the block."""
        connection = http.client.HTTPConnection(self._host, self.port, timeout=START_SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            yield connection.getresponse()
        finally:
            connection.close()

    def put_blob(self, repository: str, data: bytes) -> None:
        """Have ``data`` as a blob of a repository."""
        with self.asked("POST", f"/v2/{repository}/blobs/uploads/") as answer:
            location = answer.headers["Location"].removeprefix(self.url)
        separator = "&" if "?" in location else "?"
        digest = hashlib.sha256(data).hexdigest()
        headers = {"Content-Type": "application/octet-stream"}
        with self.asked("PUT", f"{location}{separator}digest=sha256:{digest}", data, headers) as answer:
            assert answer.status == 201, answer.read()

    def put_manifest(self, repository: str, reference: str, media_type: str, data: bytes) -> None:
        """Have ``data`` as the manifest that a tag or digest names."""
        headers = {"Content-Type": media_type}
        with self.asked("PUT", f"/v2/{repository}/manifests/{reference}", data, headers) as answer:
            assert answer.status == 201, answer.read()

    def start(self) -> None:
        """Start it, and return when it listens."""
        listening = threading.Event()
        self._process = subprocess.Popen(
            [registry_program(), "serve", str(self._config)],
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none", **self._environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self._process, listening), daemon=True)
        self._reader.start()
        assert listening.wait(START_SECONDS) and self._process.poll() is None, f"no registry:\n{self.log}"

    def stop(self) -> None:
        """End it as an administrator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> RegistryServer:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.wait(STOP_SECONDS)
        assert self._reader is not None
        self._reader.join(STOP_SECONDS)

    def _read(self, process: subprocess.Popen[bytes], listening: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self._lines.append(line.decode(errors="replace"))
                if b"listening on" in line:
                    listening.set()
        listening.set()

    def _settings(
        self, tls: Certificate | None, client_authority: Path | None, users: Mapping[str, str] | None
    ) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": f"{self._host}:{self.port}", "secret": "of a test"}
        if tls is not None:
            http["tls"] = {"certificate": str(tls.certificate), "key": str(tls.key)}
            if client_authority is not None:
                http["tls"]["clientcas"] = [str(client_authority)]
        settings: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "formatter": "json"},
            "storage": {"filesystem": {"rootdirectory": str(self.content)}, "delete": {"enabled": True}},
            "http": http,
        }
        if users is not None:
            lines = [self._password_line(name, password) for name, password in users.items()]
            passwords = self.directory / "htpasswd"
            passwords.write_text("".join(lines))
            settings["auth"] = {"htpasswd": {"realm": "registry", "path": str(passwords)}}
        return settings

    @staticmethod
    def _password_line(name: str, password: str) -> str:
        made = subprocess.run(
            ["htpasswd", "-niB", "-C", "4", name], input=password, text=True, check=True, capture_output=True
        )
        return made.stdout.strip() + "\n"
