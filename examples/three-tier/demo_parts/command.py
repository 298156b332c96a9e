"""Run the engine's command line."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

KEPT_LINES = 25


class DemoError(Exception):
    """A step failed; the text says which, why and what to do."""


class CommandError(DemoError):
    """A command of the engine failed; ``output`` holds its last lines."""

    def __init__(self, command: str, code: int, output: str) -> None:
        super().__init__(f"`{command}` ended with status {code}")
        self.output = output


class CommandLine:
    """The ``tare`` command with its ``--host`` option.

    Programs run in sessions of their own: Ctrl-C reaches the demo alone, which then ends them itself.
    """

    def __init__(self, prefix: Sequence[str]) -> None:
        self._prefix = tuple(prefix)
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._interrupted = False

    def run(
        self,
        *arguments: str,
        on_line: Callable[[str], None] | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> str:
        """Run a command to its end and return its output, standard error included.

        ``on_line`` sees each line as it comes. Raises CommandError when it fails and ``check`` is set.
        """
        last: deque[str] = deque(maxlen=KEPT_LINES)
        lines: list[str] = []
        process = self._start(arguments, env)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                last.append(line)
                if on_line is not None and line.strip():
                    on_line(line.rstrip())
            code = process.wait()
        finally:
            self._forget(process)
        if code and check:
            raise CommandError(" ".join(["tare", *arguments]), code, "".join(last).rstrip())
        return "".join(lines)

    @property
    def prefix(self) -> str:
        """The command as a user would type it."""
        return shlex.join(self._prefix)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """What ``inspect`` says about one object (``kind``: container, image, network, volume)."""
        documents: list[dict[str, Any]] = json.loads(self.run(kind, "inspect", name))
        return documents[0]

    def interrupt(self) -> None:
        """End the commands that run now."""
        with self._lock:
            running = list(self._running)
            self._interrupted = True
        for process in running:
            os.killpg(process.pid, signal.SIGTERM)

    def resume(self) -> None:
        """Allow commands again after ``interrupt``: the clean-up needs them."""
        self._interrupted = False

    def _start(self, arguments: Sequence[str], env: Mapping[str, str] | None) -> subprocess.Popen[str]:
        with self._lock:
            if self._interrupted:
                raise DemoError("interrupted")
            process = subprocess.Popen(
                [*self._prefix, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def _forget(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._running.discard(process)
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
