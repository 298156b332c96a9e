"""Tare's command line in copies of a process that has loaded it, as loading it takes longer than a small build.

Reads one call per line from standard input, ``[arguments, environment]`` in JSON, and answers ``[status, stderr]``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import tare.cli.build  # noqa: F401 - the command would load it anew in each copy
from tare.cli.main import main


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


def _call(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run a command in a copy of this process, which has all modules; standard streams are led elsewhere."""
    with tempfile.TemporaryFile() as said, open(os.devnull, "r+b") as nothing:
        child = os.fork()
        if child == 0:
            for stream, file in ((0, nothing), (1, nothing), (2, said)):
                os.dup2(file.fileno(), stream)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["tare", *arguments]
            main()  # ends the process
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode(errors="replace")


if __name__ == "__main__":
    _serve()
