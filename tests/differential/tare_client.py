"""Tare's command line, several times in one process, as starting it takes longer than a small build.

Reads one call per line from standard input, ``[arguments, environment]`` in JSON, and answers ``[status, stderr]``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from tare.cli.main import run


class TareClient:
    """One such process; calls are made one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self, arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
        """Run one command to its end; its exit status and what it wrote to standard error."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([arguments, environment]) + "\n")
        self._process.stdin.flush()
        status, said = json.loads(self._process.stdout.readline())
        return status, said

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        assert self._process.returncode == 0


def _serve() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    for line in sys.stdin:
        arguments, environment = json.loads(line)
        json.dump(_call(arguments, environment), answers)
        answers.write("\n")
        answers.flush()


def _call(arguments: list[str], environment: dict[str, str]) -> list[Any]:
    """Run a command with the standard streams led elsewhere."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["tare", *arguments]
    with tempfile.TemporaryFile() as said, open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(said.fileno(), 2)
        status: Any = 0
        try:
            status = run()
        except SystemExit as end:
            status = end.code
        sys.stderr.flush()
        said.seek(0)
        return [status or 0, said.read().decode(errors="replace")]


if __name__ == "__main__":
    _serve()
