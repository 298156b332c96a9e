"""Building a case with Docker (BuildKit) and with Tare."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

from base_image import BASE, CHANGES, base_rootfs
from built_image import read_image
from case import Case, make_context
from tare_client import TareClient

from engine_process import CHECKOUT, docker_program

ORIGIN = "http://origin"
"""What the web server's address is called in results."""

BUILD_SECONDS = 120
_ERROR_LINES = 30


@dataclass(frozen=True, slots=True)
class Builder:
    """How an engine is called.

    ``execute`` runs the build command with these words after ``build`` and gives its exit status and what it said.
    ``docker`` is Docker's own command line, connected to this engine; with ``saves`` images are fetched by it, as the
    build writes no archive.
    """

    build: tuple[str, ...]
    environment: dict[str, str]
    execute: Callable[[list[str], dict[str, str]], tuple[int, str]]
    docker: tuple[str, ...]
    saves: bool = False

    def load_base(self) -> None:
        """Have the base image."""
        changes = [word for change in CHANGES for word in ("--change", change)]
        done = subprocess.run(
            [*self.docker, "import", *changes, "-", BASE],
            input=base_rootfs(),
            capture_output=True,
            env=self.environment,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()

    def run(self, case: Case, origin: str) -> dict[str, Any]:
        """What the builder makes of the case: an image's document, or ``{"error": text}``; ``origin`` is a URL."""
        with tempfile.TemporaryDirectory(prefix="tare-differential-") as scratch:
            # BuildKit knows a context by its last name, and takes files of equal size and time for unchanged.
            context, archive = Path(scratch, Path(scratch).name), Path(scratch, "image.tar")
            make_context(case, context)
            for tag, dockerfile in case.before.items():
                failed = self._build(case, context, "--tag", tag, "--file", str(context / dockerfile))
                assert not failed, failed
            tag = f"differential/{case.name}:result"
            result = ("--tag", tag) if self.saves else ("--output", f"type=oci,dest={archive}")
            file = str(context / case.dockerfile)
            error = self._build(case, context, *result, "--file", file, *case.arguments(context, origin))
            if error:
                return {"error": error.replace(scratch, "").replace(origin, ORIGIN)}
            if self.saves:
                self._check(*self.docker, "save", "--output", str(archive), tag)
            document: dict[str, Any] = json.loads(json.dumps(read_image(archive)).replace(origin, ORIGIN))
            return document

    def _build(self, case: Case, context: Path, *options: str) -> str:
        """Build; the error's last lines, or nothing."""
        status, said = self.execute([*self.build, *options, str(context)], self.environment | case.environment)
        return (_reason(said) or "failed without a word") if status else ""

    def _check(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, env=self.environment, check=False, timeout=60)
        assert done.returncode == 0, done.stderr.decode()


def _reason(said: str) -> str:
    """The error without the steps before it, and without the places that only this machine has."""
    said = re.sub(r"\S*/overlay2/[^/\s]+/merged", "", said)
    lines = said.rstrip().splitlines()
    first = max((number for number, line in enumerate(lines) if line.startswith("ERROR:")), default=0)
    return "\n".join(lines[first:][-_ERROR_LINES:])


def _environment() -> dict[str, str]:
    dropped = ("DOCKER_", "TARE_", "BUILDX_", "BUILDKIT_", "SOURCE_DATE_EPOCH")
    proxies = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ftp_proxy")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(dropped) and name.lower() not in proxies
    }


@contextmanager
def tare_builder(host: str, at_once: int) -> Iterator[Builder]:
    """Tare at ``host``, by its own command line, for ``at_once`` builds at the same time."""
    clients: Queue[TareClient] = Queue()
    for _ in range(at_once):
        clients.put(TareClient())

    def execute(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
        client = clients.get()
        try:
            return client.call(arguments, environment)
        finally:
            clients.put(client)

    environment = _environment() | {"DOCKER_HOST": host}
    try:
        yield Builder(("--host", host, "build", "--progress", "plain"), environment, execute, (docker_program(),))
    finally:
        for _ in range(at_once):
            clients.get().close()


def docker_builder(host: str) -> Builder:
    """The reference Docker at ``host`` with its own client and buildx (scripts/reference-docker.sh)."""
    root = CHECKOUT / ".tools" / "reference-docker" / "root"
    config = root.parent / "client"
    (config / "cli-plugins").mkdir(parents=True, exist_ok=True)
    link = config / "cli-plugins" / "docker-buildx"
    link.unlink(missing_ok=True)
    link.symlink_to(root / "usr/libexec/docker/cli-plugins/docker-buildx")
    program = (str(root / "usr/bin/docker"), "--host", host)
    environment = _environment() | {"DOCKER_CONFIG": str(config), "DOCKER_BUILDKIT": "1"}
    build = (*program, "buildx", "build", "--progress", "plain")
    return Builder(build, environment, _execute, program, saves=True)


def _execute(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
        timeout=BUILD_SECONDS,
    )
    return done.returncode, done.stderr.decode(errors="replace")
