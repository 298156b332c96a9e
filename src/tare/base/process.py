"""Run programs without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tare.errors import Unavailable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has ended: its arguments, exit code (negative: signal) and output."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def error_text(self) -> str:
        """What the program said on standard error, else on standard output, stripped."""
        return (self.stderr or self.stdout).decode(errors="replace").strip()


async def run(
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
    timeout: float | None = None,
    group: bool = False,
    umask: int = -1,
) -> Completed:
    """Run ``argv`` to its end and collect its output; a failing program is not an error here.

    With ``group`` it is killed together with all that it has started; ``umask`` -1 leaves the engine's. Raises
    Unavailable when the program does not exist or exceeds ``timeout`` seconds (it is killed then).
    """
    logger.debug("run %s", shlex.join(argv))
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=group,
            umask=umask,
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{argv[0]}: program not found", hint="run `tare doctor`", code="program-missing") from error
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await process.communicate(stdin)
    except TimeoutError as error:
        raise Unavailable(f"{argv[0]}: no result within {timeout} seconds") from error
    finally:
        if process.returncode is None:
            kill(process, group=group)
            await process.wait()
    return Completed(tuple(argv), process.returncode or 0, stdout, stderr)


def kill(process: asyncio.subprocess.Process, *, group: bool) -> None:
    """Kill a program of ours, with ``group`` (it leads a session) all that it has started."""
    if not group:
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
