"""Run the commands against an engine, and make the answers comparable."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from differential.containers import normal as containers
from differential.networks.commands import COMMANDS, expanded
from engine_process import docker_program

_RULES: tuple[tuple[str, str], ...] = (
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<short>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r"\b(172\.(1[6-9]|2\d|3[01])|192\.168|10\.214)(\.\d+){2}(/\d+)?", "<pool>"),
    (r'("IPPrefixLen":)(16|20|24)\b', r"\1<length>"),
    (r"\b(?!02:42:00)[0-9a-f]{2}(:[0-9a-f]{2}){5}\b", "<mac>"),
    (r"\b(docker0|tare0|tr[0-9a-f]{4,12}-0)\b", "<bridge>"),
    (r"(br|tr)-<short>|tr[0-9a-f]{4,12}-[0-9a-f]{6}", "<bridge>"),
    (r"(0\.0\.0\.0|\[::\]|127\.0\.0\.1):(3[2-9]|[45]\d|60)\d{3}\b", r"\1:<port>"),
    (r'("HostPort":")(3[2-9]|[45]\d|60)\d{3}"', r"\1<port>"),
    (r"127\.0\.0\.1:2111[0-2]\b", "<one of the range>"),  # Docker goes on after the last that it gave
    (r'("SandboxKey":")[^"]+', r"\1<path>"),
    (r"[ \t]{2,}", "  "),
)


_BY_ID = re.compile(r"netcli-\w+ <id> ")


def run_all(environment: dict[str, str], commands: Sequence[str] = COMMANDS) -> dict[str, dict[str, Any]]:
    """Every command's answer by number and line."""
    containers.prepare(environment)
    start = ""
    answers = {}
    for number, line in enumerate(commands):
        if line == "<start>":
            start = f"{time.time():.9f}"
            continue
        words = shlex.split(expanded(line).replace("<start>", start).replace("<now>", f"{time.time():.9f}"))
        answers[f"{number:03} {line}"] = _run(words, environment)
    return answers


def _run(words: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [docker_program(), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment,
        timeout=60,
        check=False,
    )
    return {"status": done.returncode, "out": _normal(done.stdout), "err": _normal(done.stderr)}


def _normal(data: bytes) -> list[str]:
    """Lines without what differs from run to run; members of documents in order."""
    text = data.decode()
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"(?<=active endpoints \()[^)]*", lambda found: ", ".join(sorted(found[0].split(", "))), text)
    lines = [_sorted(line.rstrip()) for line in text.splitlines()]
    return sorted(lines) if lines[:1] == ["Deleted Networks:"] or _BY_ID.match(text) else lines  # in no order


def _sorted(line: str) -> str:
    try:
        return json.dumps(json.loads(line), sort_keys=True) if line.startswith("{") else line
    except ValueError:
        return line
