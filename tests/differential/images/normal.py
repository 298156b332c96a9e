"""Run the commands against an engine, and make the answers comparable."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from differential.images.commands import COMMANDS, files
from engine_process import docker_program
from source_servers import Answer, source_server

_RULES: tuple[tuple[str, str], ...] = (
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<short>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \w+", "<time>"),
    (r"\b(Less than a second|About a minute|About an hour|\d+ (seconds?|minutes?))( ago)?", "<while>"),
    (r"127\.0\.0\.1:\d{4,}", "<address>"),
    (r"\b(?!0B)\d+(\.\d+)?[kMG]?B\b( \(\d+%\))?", "<size>"),
    (r'("Size": ?|"SharedSize": ?|"VirtualSize": ?|"UniqueSize": ?)[1-9]\d*', r"\1<size>"),
    (r"(runc|crun) create failed", "<runtime> create failed"),
    (r"[ \t]{2,}", "  "),
)
_IN_NO_ORDER = (
    "images",
    "image ls",
    "image list",
    "image prune",
    "system df -v",
    "system prune",
    "ps",
    "volume ls",
    "volume prune",
)
_OF_THE_DRIVER = ("GraphDriver", "DockerVersion")


def run_all(environment: dict[str, str], commands: Sequence[str] = COMMANDS) -> dict[str, dict[str, Any]]:
    """Every command's answer by number and line."""
    with tempfile.TemporaryDirectory() as directory, source_server(Path(directory)) as server:
        for name, data in files().items():
            Path(directory, name).write_bytes(data)
            server.files[f"/{name}"] = Answer(data)
        server.files["/moved"] = Answer(status=302, headers={"Location": "/small.tar"})
        path = f"{Path(docker_program()).parent}:{os.environ['PATH']}"
        surroundings = {**environment, "PATH": path, "URL": server.url(""), "LC_ALL": "C.UTF-8", "NO_PROXY": "*"}
        surroundings["START"] = f"{time.time():.9f}"
        return {f"{number:03} {line}": _run(line, directory, surroundings) for number, line in enumerate(commands)}


def _run(line: str, directory: str, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        ["sh", "-c", f"docker {line}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=directory,
        env=environment,
        timeout=60,
        check=False,
    )
    out = _normal(_inspected(done.stdout) if line.startswith("image inspect ") else done.stdout)
    if line.startswith(_IN_NO_ORDER):
        out.sort()  # names of an image, and images of one second
    return {"status": done.returncode, "out": out, "err": _normal(done.stderr)}


def _inspected(data: bytes) -> bytes:
    """A document without what the storage driver and the program say about themselves."""
    try:
        images = json.loads(data)
    except ValueError:
        return data
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        return data  # what a template made
    kept = [{name: value for name, value in image.items() if name not in _OF_THE_DRIVER} for image in images]
    return json.dumps(kept, indent=1, sort_keys=True).encode()


def _normal(data: bytes) -> list[str]:
    """Lines without what differs from run to run; members of documents in order."""
    text = data.decode(errors="replace")
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    return [_sorted(line.rstrip()) for line in text.splitlines()]


def _sorted(line: str) -> str:
    try:
        return json.dumps(json.loads(line), sort_keys=True) if line.startswith("{") else line
    except ValueError:
        return line
