"""Runs cases of the table with a client, and makes what two clients show comparable."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from option_cases import EVERYTHING, FILES, OptionCase, Result

SECONDS = 90
_ID = re.compile(r"\b[0-9a-f]{64}\b")
_SHORT_ID = re.compile(r"\b[0-9a-f]{12}\b")
_NAMESPACE = re.compile(r"\b(\w+):\[\d+\]")
_OVERLAY = re.compile(r"(\boverlay r[ow],relatime),\S*")
_HOST = (
    (re.compile(r"^(/etc/(?:resolv.conf|hostname|hosts)) \S+ (r[ow])\S*", re.MULTILINE), r"\1 \2"),
    (re.compile(r"\d+\.00, as there are only \d+ CPUs"), "<number>.00, as there are only <number> CPUs"),
    (re.compile(r"available: [\d,-]+"), "available: <numbers>"),
)
"""What depends on the machine."""
_CGROUP = re.compile(r"/(tare-reference|tare-options-ref|tare-?\w*)/<id>")


@dataclass(frozen=True)
class Client:
    """A command line, such as ``docker`` with its options, and the namespaces of the engine that it talks to."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    namespaces: frozenset[str]

    @classmethod
    def make(cls, argv: Sequence[str], environment: dict[str, str], socket_path: Path) -> Client:
        """The client of the engine that listens at ``socket_path``."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.fspath(socket_path))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid = struct.unpack("iII", credentials)[0]
        links = frozenset(os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/ns"))
        return cls(tuple(argv), {**environment, "FROM_HOST": "from the host"}, links)

    def call(self, *words: str) -> Result:
        """Run the client to its end."""
        done = subprocess.run(
            [*self.argv, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.environment,
            timeout=SECONDS,
            check=False,
        )
        return Result(done.returncode, self._same(done.stdout), self._same(done.stderr))

    def _same(self, data: bytes) -> str:
        text = data.decode(errors="backslashreplace").replace(os.fspath(FILES), "@FILES")
        text = _NAMESPACE.sub(lambda match: f"{match[1]}: {'the host' if match[0] in self.namespaces else 'own'}", text)
        for pattern, same in _HOST:
            text = pattern.sub(same, text)
        text = _OVERLAY.sub(r"\1", text)
        text = _SHORT_ID.sub("<short id>", _ID.sub("<id>", text))
        text = _CGROUP.sub("/<parent>/<id>", text)
        # whichever command line it is
        text = re.sub(r"^(Usage:  )(docker|tare) ", r"\1CLIENT ", text, flags=re.M)
        return re.sub(r"^(docker|tare):", "CLIENT:", re.sub(r"'(docker|tare) (\w+) ", r"'CLIENT \2 ", text), flags=re.M)


def run_case(client: Client, case: OptionCase) -> Result:
    """What the client shows for ``case``; nothing of it stays."""
    if not case.inspect:
        return client.call("run", "--rm", *case.words())
    name = f"options-{case.name}-{os.path.basename(client.argv[0])}"
    made = client.call("create", "--name", name, *case.words())
    if made.code != 0:
        return made
    shown = client.call("inspect", name)
    client.call("rm", name)
    document = json.loads(shown.out)[0]
    members = {**document["HostConfig"], **document["Config"]}
    wanted = {name: members.get(name, "absent") for name in case.inspect}
    if case.inspect == EVERYTHING:
        wanted = {**document["HostConfig"], "Runtime": "<default>"}
    return Result(shown.code, json.dumps(wanted, indent=1, sort_keys=True), made.err)


def differences(case: OptionCase, recorded: Result, found: Result, *, runtime: str) -> list[str]:
    """Where ``found``, by an engine with ``runtime``, is not what is wanted, one line each; empty when it is."""
    lines = []
    wanted = case.expected or recorded
    if runtime == "crun" and case.crun:
        code = wanted.code if case.crun_code is None else case.crun_code
        wanted = Result(code, found.out, found.err)
    for part in ("code", "out", "err"):
        one, other = getattr(wanted, part), getattr(found, part)
        if one != other and not (part == "err" and _with_hints(one, other)):
            lines.append(f"{case.name}: {part}: expected {one!r}, found {other!r}")
    return lines


def _with_hints(wanted: str, found: str) -> bool:
    """Whether ``found`` says the same, with hints in brackets at the ends of lines, and causes and fixes."""
    one = wanted.splitlines()
    other = [line for line in found.splitlines() if not line.startswith(("cause: ", "fix: "))]
    return len(one) == len(other) and all(
        line == same or (same.startswith(f"{line} (") and same.endswith(")"))
        for line, same in zip(one, other, strict=True)
    )
