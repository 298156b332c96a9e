"""Containers at run time: created by the runtime under conmon, waited for, and found again after an engine restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tare.base.shielding import finish
from tare.errors import Conflict, InternalError, NotFound, TareError
from tare.kernel.pidfd import PidFd
from tare.kernel.processes import in_cgroup
from tare.runtime import conmon as conmon_part
from tare.runtime.attach import AttachSession, set_terminal_size
from tare.runtime.exec_probe import ProbeOutcome, end_leftover, run_probe
from tare.runtime.exec_session import ExecSession, start_exec
from tare.runtime.log_options import JournalEntry
from tare.runtime.oci_runtime import (
    CREATE_FAILED,
    LOG_NAME,
    OciRuntime,
    command_of,
    error_in,
    execution_error,
    last_error,
)

logger = logging.getLogger(__name__)

OOM_NAME = "oom"
PROBE_NAME = "probe"
UNKNOWN_CODE = 255
"""What is reported when nobody knows how a container ended (the machine was switched off)."""
KILLED_CODE = 137
NOBODY_SAW = "how the container ended is not known: nobody saw it (the machine or the supervisor was switched off)"
SUPERVISOR_GONE = "the container's supervisor (conmon) has vanished, so the container was killed; output may be lost"


@dataclass(frozen=True, slots=True)
class Created:
    """A created container: the ids of its (waiting) first process and of its supervisor."""

    pid: int
    conmon_pid: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended: exit code (128 + signal), and when (RFC 3339, nanoseconds, UTC).

    ``error`` says what its end had to do with the engine: that its supervisor had vanished, that nobody saw it end.
    """

    code: int
    oom_killed: bool
    finished_at: str
    error: str = ""


@dataclass(slots=True)
class _Task:
    directory: Path
    conmon: PidFd | None
    init: PidFd | None
    started: bool = False
    ended: asyncio.Task[Exit] | None = None

    def close(self) -> None:
        for handle in (self.conmon, self.init):
            if handle is not None:
                handle.close()


def rfc3339(nanoseconds: int) -> str:
    """UTC time stamp with nine decimals of nanoseconds since the epoch."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


class Supervisor:
    """Runs containers. All that belongs to one lives in ``run_root/containers/<id>`` and goes with ``delete``."""

    def __init__(self, runtime: OciRuntime, run_root: Path, conmon: str = "conmon") -> None:
        self.runtime = runtime
        self.conmon = conmon
        self._containers = run_root / "containers"
        self._tasks: dict[str, _Task] = {}

    def directory(self, container_id: str) -> Path:
        """Where the container's pid files, sockets and exit file are."""
        return self._containers / container_id

    async def create(
        self,
        container_id: str,
        bundle_dir: Path,
        *,
        log_path: Path | None,
        journal: JournalEntry | None = None,
        terminal: bool = False,
        open_stdin: bool = False,
        stdin_once: bool = False,
    ) -> Created:
        """Create the container of ``bundle_dir/config.json``; its process waits for ``start``.

        Raises ExecutableError (126, 127) when the command cannot be executed, InternalError with the runtime's words,
        Conflict when the id is in use. Nothing is left behind then.
        """
        directory = self.directory(container_id)
        request = conmon_part.ConmonRequest(
            container_id=container_id,
            exit_name=container_id,
            directory=directory,
            log_path=log_path,
            journal=journal,
            terminal=terminal,
            open_stdin=open_stdin,
            leave_stdin_open=open_stdin and not stdin_once,
        )
        launching = asyncio.ensure_future(self._launch(container_id, request, bundle_dir))
        try:
            task = await asyncio.shield(launching)
        except asyncio.CancelledError:
            # a runtime that is killed half-way leaves cgroups behind: let it finish, it takes milliseconds
            await finish(self._discard_launched(container_id, launching), what=f"discard container {container_id}")
            raise
        self._tasks[container_id] = task
        self._watch(container_id, task)
        if task.init is None or task.conmon is None:
            raise InternalError(f"container {container_id} has no processes")
        return Created(task.init.pid, task.conmon.pid)

    async def _discard_launched(self, container_id: str, launching: asyncio.Future[_Task]) -> None:
        with contextlib.suppress(TareError):
            await self._discard(container_id, await launching)

    async def _launch(self, container_id: str, request: conmon_part.ConmonRequest, bundle_dir: Path) -> _Task:
        """Start conmon and take its first report. On an error nothing stays behind."""
        directory = request.directory
        task = _Task(directory, None, None)
        try:
            await asyncio.to_thread(_prepare, directory, bundle_dir)
        except FileExistsError as error:
            raise Conflict(f"container {container_id} is already set up", hint="delete it first") from error
        try:
            argv = conmon_part.arguments(self.conmon, self.runtime, request)
            async with conmon_part.Launch(argv, directory) as launch:
                task.conmon = await asyncio.to_thread(_open_pid, directory / conmon_part.CONMON_PID)
                report = await launch.report()
            if report.data <= 0:
                logged = await asyncio.to_thread(last_error, directory / LOG_NAME)
                message = logged or error_in(report.message) or report.message.strip()
                command = await asyncio.to_thread(command_of, bundle_dir)
                runtime = self.runtime.of(container_id).name
                raise execution_error(CREATE_FAILED, message, command=command, verb=f"{runtime} create failed")
            task.init = PidFd(report.data)
            if task.conmon is None:
                raise InternalError(f"the supervisor of container {container_id} has ended")
        except BaseException:
            await finish(self._discard(container_id, task), what=f"discard container {container_id}")
            raise
        return task

    async def start(self, container_id: str) -> None:
        """Let the process of a created container run. Raises Conflict when it is not in that state."""
        await self.runtime.start(container_id)
        self._task(container_id).started = True

    async def kill(self, container_id: str, number: int, *, everything: bool = False) -> None:
        """Send signal ``number`` to the first process, or to every process. Raises Conflict when it has ended."""
        task = self._task(container_id)
        if everything:
            await self.runtime.kill(container_id, number, everything=True)
        elif task.init is None or not task.init.send_signal(number):
            raise Conflict(f"container {container_id} is not running")

    async def pause(self, container_id: str) -> None:
        """Freeze the container."""
        await self.runtime.pause(container_id)

    async def resume(self, container_id: str) -> None:
        """Thaw the container."""
        await self.runtime.resume(container_id)

    async def wait(self, container_id: str) -> Exit:
        """Return when the container has ended and all of its output is written. Any number may wait."""
        ended = self._task(container_id).ended
        if ended is None:
            raise NotFound(f"container {container_id} is not supervised")
        return await asyncio.shield(ended)

    async def attach(self, container_id: str) -> AttachSession:
        """Connect to the container's standard streams; between create and start, not a byte of output is missed."""
        task = self._task(container_id)
        return await AttachSession.connect(task.directory)

    def resize(self, container_id: str, height: int, width: int) -> None:
        """Set the size of the container's terminal in characters. Raises NotFound."""
        set_terminal_size(self._task(container_id).directory, height, width)

    async def exec(
        self,
        container_id: str,
        exec_id: str,
        process_spec: dict[str, Any],
        *,
        terminal: bool = False,
        open_stdin: bool = False,
        detach: bool = False,
    ) -> ExecSession:
        """Run another process (runtime-spec ``process``) in the container; see ``exec_session.start_exec``."""
        task = self._task(container_id)
        return await start_exec(
            self.runtime,
            container_id,
            exec_id,
            process_spec,
            conmon=self.conmon,
            container_dir=task.directory,
            terminal=terminal,
            open_stdin=open_stdin,
            detach=detach,
        )

    async def probe(
        self,
        container_id: str,
        process_spec: dict[str, Any],
        *,
        timeout: float,
        limit: int,
        on_start: Callable[[int], None],
    ) -> ProbeOutcome:
        """Run a short process without supervisor in the container; one at a time. See ``exec_probe.run_probe``."""
        directory = self._task(container_id).directory / PROBE_NAME
        return await run_probe(
            self.runtime.of(container_id),
            container_id,
            directory,
            process_spec,
            timeout=timeout,
            limit=limit,
            on_start=on_start,
        )

    async def known(self) -> list[str]:
        """The containers that have something at run time, of this engine process or an earlier one."""
        if not await asyncio.to_thread(self._containers.is_dir):
            return []
        return await asyncio.to_thread(lambda: sorted(path.name for path in self._containers.iterdir()))

    async def delete(self, container_id: str) -> None:
        """Kill the container if need be and remove all that it has at run time. Deleting twice is fine."""
        task = self._tasks.pop(container_id, None)
        if task is None:
            task = _Task(self.directory(container_id), None, None)
        await self._discard(container_id, task)

    async def adopt(self, container_id: str, *, same_boot: bool = True) -> bool:
        """Take up a container of an earlier engine process: ``wait``, ``kill``, ``delete`` … work again.

        True while its supervisor is alive. Otherwise ``wait`` answers with what the supervisor wrote, or, when that is
        not known, with code 255. A process without its supervisor is killed (137): nobody would see its output or its
        end. Without ``same_boot`` no process id that was stored is looked at.
        """
        if container_id in self._tasks:
            raise Conflict(f"container {container_id} is supervised already")
        directory = self.directory(container_id)
        task = _Task(directory, None, None)
        if same_boot:
            task = await asyncio.to_thread(_find_again, directory, container_id)
        self._tasks[container_id] = task
        self._watch(container_id, task)
        return task.conmon is not None

    async def close(self) -> None:
        """Let go of all containers (they live on)."""
        for task in self._tasks.values():
            if task.ended is not None:
                task.ended.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task.ended
            task.close()
        self._tasks.clear()

    def _task(self, container_id: str) -> _Task:
        try:
            return self._tasks[container_id]
        except KeyError:
            raise NotFound(f"container {container_id} is not supervised", hint="start it first") from None

    def _watch(self, container_id: str, task: _Task) -> None:
        task.ended = asyncio.get_running_loop().create_task(
            self._wait_exit(container_id, task), name=f"wait {container_id}"
        )

    async def _wait_exit(self, container_id: str, task: _Task) -> Exit:
        """The end of a container: conmon writes the exit file after the last byte of output, then ends."""
        if task.conmon is not None:
            await task.conmon.wait_ended()
        known = await asyncio.to_thread(_read_exit, task.directory, container_id)
        if known is not None:
            return known
        now = rfc3339(time.time_ns())
        if task.init is None or not task.init.send_signal(0):
            return Exit(UNKNOWN_CODE, oom_killed=False, finished_at=now, error=NOBODY_SAW)
        logger.warning("the supervisor of container %s has vanished, the container is killed", container_id)
        await self._kill_unseen(container_id, task.init)
        return Exit(KILLED_CODE, oom_killed=False, finished_at=rfc3339(time.time_ns()), error=SUPERVISOR_GONE)

    async def _kill_unseen(self, container_id: str, init: PidFd) -> None:
        with contextlib.suppress(TareError):
            await self.runtime.resume(container_id)  # what is frozen does not die
        init.send_signal(signal.SIGKILL)
        await init.wait_ended()

    async def _discard(self, container_id: str, task: _Task) -> None:
        try:
            await self.runtime.delete(container_id, force=True)
            if task.ended is not None:
                await task.ended
            elif task.conmon is not None:
                await task.conmon.wait_ended()
        finally:
            task.close()
            await asyncio.to_thread(shutil.rmtree, task.directory, ignore_errors=True)


def _prepare(directory: Path, bundle_dir: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    directory.mkdir(mode=0o700)
    # conmon makes its sockets in the bundle: this directory is the bundle, so that they go when the machine goes
    (directory / "config.json").symlink_to(bundle_dir.resolve() / "config.json")


def _open_pid(path: Path) -> PidFd | None:
    try:
        return PidFd(int(path.read_text()))
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None


def _find_again(directory: Path, container_id: str) -> _Task:
    """Open the processes of a container that another engine process created; recycled ids are recognised."""
    conmon = _open_pid(directory / conmon_part.CONMON_PID)
    if conmon is not None and container_id not in conmon.command_line():
        conmon.close()
        conmon = None
    init = _open_pid(directory / conmon_part.CONTAINER_PID)
    if init is not None and not in_cgroup(init.pid, container_id):
        init.close()
        init = None
    end_leftover(directory / PROBE_NAME, container_id)
    return _Task(directory, conmon, init, started=True)


def _read_exit(directory: Path, container_id: str) -> Exit | None:
    path = directory / container_id
    try:
        code, changed = int(path.read_text()), path.stat().st_mtime_ns
    except (FileNotFoundError, ValueError):
        return None
    return Exit(code, oom_killed=(directory / OOM_NAME).exists(), finished_at=rfc3339(changed))
