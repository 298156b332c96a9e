"""Run the commands against an engine, and make the answers comparable: identifiers, times, addresses and sizes go."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

from differential.containers.commands import COMMANDS, IMAGE, Command
from engine_process import busybox_rootfs, docker_program

_RULES: tuple[tuple[str, str], ...] = (
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<short>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r"(Less than a second|About a minute|\d+ (seconds?|minutes?))( ago)?", "<while>"),
    (r"127\.0\.0\.1:\d+", "<address>"),
    (r"/tmp/[\w./-]+/rootfs/\S+|/var/lib/\S+|/run/\S+", "<path>"),
    (r"(runc|crun) did not", "<runtime> did not"),
    (r"space: [\d.]+k?B", "space: <size>"),  # Docker counts bytes, Tare blocks on disk
    (r"(?m)^\d+ +(?=sleep)", "<pid> "),
    (r'(?m)^time=.*read/write on closed pipe"\n', ""),  # the client's own race with what it packs
    (r"[ \t]{2,}", "  "),
)


def prepare(environment: dict[str, str]) -> None:
    """Make the image that the commands use."""
    argv = ["import", "-c", 'CMD ["sh"]', "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "-", IMAGE]
    _docker(argv, environment, busybox_rootfs())


def run(command: Command, environment: dict[str, str]) -> dict[str, Any]:
    """The command's exit status and what it wrote."""
    done = _docker(shlex.split(command.line), environment)
    return {"status": done.returncode, "out": normal(done.stdout), "err": normal(done.stderr)}


def run_all(environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Every command's answer by number and line."""
    prepare(environment)
    return {f"{number:03} {command.line}": run(command, environment) for number, command in enumerate(COMMANDS)}


def normal(data: bytes) -> list[str]:
    """Lines without what differs from run to run; binary output counts by its length in whole records."""
    if b"\0" in data:
        return [f"binary, {len(data) // 512 > 0}"]
    text = data.decode(errors="replace")
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    lines = [line.rstrip() for line in text.splitlines()]
    return sorted(lines) if all(line[:2] in ("A ", "C ", "D ") for line in lines) else lines  # diff has no order


def _docker(
    argv: list[str], environment: dict[str, str], stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [docker_program(), *argv],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        env=environment,
        timeout=60,
        check=False,
    )
