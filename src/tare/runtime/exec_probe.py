"""A short command in a running container: output cut, time limited, killed with its children. No supervisor.

It ends with its engine's life at the latest: :func:`end_leftover` ends what a killed engine has left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tare.base.shielding import finish
from tare.errors import Unavailable
from tare.kernel.inotify import IN_CLOSE_WRITE, IN_MOVED_TO, Inotify
from tare.kernel.processes import in_cgroup, kill_family
from tare.runtime.oci_runtime import EXEC_FAILED, LOG_NAME, OciRuntime, execution_error, last_error

logger = logging.getLogger(__name__)

START_SECONDS = 30.0  # for the runtime to start it; not counted to the command's own time
_PID_NAME = "pid"
_SPEC_NAME = "process.json"


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """How the command ended. ``code`` is None when its time was over; ``output`` holds both streams."""

    code: int | None
    output: bytes
    truncated: bool


class _Output:
    """The first ``limit`` bytes of a stream that is read to its end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.data = bytearray()
        self.truncated = False

    async def take(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(65536):
            room = self._limit - len(self.data)
            self.truncated = self.truncated or len(data) > room
            self.data += data[:room]


async def run_probe(
    runtime: OciRuntime,
    container_id: str,
    directory: Path,
    process_spec: dict[str, Any],
    *,
    timeout: float,
    limit: int,
    on_start: Callable[[int], None],
) -> ProbeOutcome:
    """Run ``process_spec`` (runtime-spec ``process``); ``on_start`` gets its host process id when it runs.

    ``directory`` is made, holds the runtime's files meanwhile, and is removed. ``timeout`` seconds count from the
    process's start. Cancelling kills it. Raises ExecutableError, and Unavailable when it is not started in time.
    """
    await asyncio.to_thread(_prepare, directory, process_spec)
    try:
        return await _run(runtime, container_id, directory, timeout=timeout, limit=limit, on_start=on_start)
    finally:
        await finish(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True), what=f"remove {directory}")


async def _run(
    runtime: OciRuntime,
    container_id: str,
    directory: Path,
    *,
    timeout: float,
    limit: int,
    on_start: Callable[[int], None],
) -> ProbeOutcome:
    pid_file, log = directory / _PID_NAME, directory / LOG_NAME
    output = _Output(limit)
    with Inotify() as changes:
        changes.watch(directory, IN_MOVED_TO | IN_CLOSE_WRITE)
        child = await runtime.spawn_exec(container_id, process_spec=directory / _SPEC_NAME, pid_file=pid_file, log=log)
        ended = asyncio.create_task(_end_of(child, output), name=f"probe of {container_id[:12]}")
        try:
            pid = await _started(changes, pid_file, ended, container_id)
            if pid:
                on_start(pid)
            async with asyncio.timeout(timeout):
                code: int | None = await asyncio.shield(ended)
        except TimeoutError:
            code = None
        finally:
            if not ended.done():
                await finish(_kill(child, pid_file, ended), what=f"kill probe of {container_id[:12]}")
    if code and (message := await asyncio.to_thread(last_error, log)):
        raise execution_error(EXEC_FAILED, message)
    return ProbeOutcome(code, bytes(output.data), output.truncated)


async def _end_of(child: asyncio.subprocess.Process, output: _Output) -> int:
    if child.stdout is not None:
        await output.take(child.stdout)
    return await child.wait()


async def _started(changes: Inotify, pid_file: Path, ended: asyncio.Task[int], container_id: str) -> int:
    """The process's id as soon as it runs; 0 when the runtime has ended before one was seen."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while not ended.done():
                if pid := _read_pid(pid_file):
                    return pid
                changed = asyncio.create_task(changes.wait_changed())
                try:
                    await asyncio.wait({changed, ended}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
    except TimeoutError as error:
        raise Unavailable(f"timed out starting health check for container {container_id}") from error
    return _read_pid(pid_file)


def _read_pid(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


async def _kill(child: asyncio.subprocess.Process, pid_file: Path, ended: asyncio.Task[int]) -> None:
    if pid := _read_pid(pid_file):
        await asyncio.to_thread(kill_family, pid)
    if child.returncode is None:
        await asyncio.to_thread(kill_family, child.pid)  # the runtime, and what it was about to start
    await ended


def _prepare(directory: Path, process_spec: dict[str, Any]) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    (directory / _SPEC_NAME).write_text(json.dumps(process_spec))


def end_leftover(directory: Path, container_id: str) -> None:
    """Kill what a probe of an earlier engine process has left in ``directory``, and remove that. Blocks."""
    pid = _read_pid(directory / _PID_NAME)
    if pid and in_cgroup(pid, container_id):
        logger.info("ending a health check of container %s that an earlier engine began", container_id[:12])
        kill_family(pid)
    shutil.rmtree(directory, ignore_errors=True)
