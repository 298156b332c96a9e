"""The shape of a JSON document: its members and their types, to compare documents whose values differ."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from differential.containers.commands import IMAGE
from engine_process import docker_program

_KEYED = (".Networks", ".Ports", ".Labels", ".Volumes", ".ExposedPorts", ".PortBindings", ".Tmpfs", ".Data")
NAMES = ("shape-created", "shape-running")
OPTIONS = (
    "--label", "x=y", "-v", "/vol", "--tmpfs", "/tm", "-e", "A=b", "-p", "127.0.0.1::80", "--expose", "90",
    "--health-cmd", "true", "-m", "64m",
)  # fmt: skip

DIFFERENCES = {
    "[].GraphDriver.Data.*": "the storage driver has no such directories",
    "[].State.Health": "a matter of health checks",
}
"""Members that are not compared, by the beginning of their path, and why."""


def shape(value: Any, path: str = "") -> dict[str, str]:
    """Each member's path with its type; members of maps with free keys count as one."""
    if isinstance(value, dict):
        found = {path: "object"}
        for name, member in value.items():
            found |= shape(member, f"{path}.{'*' if path.endswith(_KEYED) else name}")
        return found
    if isinstance(value, list):
        found = {path: "list"}
        for member in value:
            found |= shape(member, f"{path}[]")
        return found
    return {path: type(value).__name__}


def inspected(environment: dict[str, str]) -> dict[str, dict[str, str]]:
    """The shapes of ``inspect`` for a container that was only created and one that runs with many options."""

    def docker(*argv: str) -> bytes:
        done = subprocess.run([docker_program(), *argv], capture_output=True, env=environment, timeout=60, check=True)
        return done.stdout

    docker("create", "--name", NAMES[0], IMAGE, "true")
    docker("run", "-d", "--name", NAMES[1], *OPTIONS, IMAGE, "sleep", "1000")
    try:
        return {name: compared(shape(json.loads(docker("inspect", "-s", name)))) for name in NAMES}
    finally:
        docker("rm", "-f", "-v", *NAMES)


def compared(found: dict[str, str]) -> dict[str, str]:
    """Without the members that are known to differ."""
    return {path: kind for path, kind in found.items() if not path.startswith(tuple(DIFFERENCES))}
