"""A further process in a running container (``exec``), under a conmon of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tare.base.shielding import finish
from tare.errors import Conflict, InternalError, TareError
from tare.kernel.pidfd import PidFd
from tare.runtime import conmon as conmon_part
from tare.runtime.attach import AttachSession, Stream
from tare.runtime.exec_output import LATE_SECONDS, LateOutput, open_outputs
from tare.runtime.oci_runtime import EXEC_FAILED, LOG_NAME, OciRuntime, error_in, execution_error, last_error

logger = logging.getLogger(__name__)


class ExecSession:
    """A running exec; iterate it for output, which is complete from the first byte to the last.

    It goes on for two seconds after the process's end while others that have its pipes write to them, as in Docker. A
    context manager; closing it disconnects, the process lives on.
    """

    def __init__(
        self,
        pid: int,
        exec_id: str,
        *,
        streams: AttachSession | None,
        late: LateOutput,
        launch: conmon_part.Launch,
        directory: Path,
    ) -> None:
        self.pid = pid
        self.exec_id = exec_id
        self._streams = streams
        self._late = late
        self._connected = streams is not None
        self._directory = directory
        self._letting_go: asyncio.Task[None] | None = None
        self._ended = asyncio.get_running_loop().create_task(self._follow(launch), name=f"exec {exec_id}")

    async def __aenter__(self) -> ExecSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect from the streams."""
        self._connected = False
        self._late.end()
        if self._streams is not None:
            self._streams.close()

    async def __aiter__(self) -> AsyncIterator[tuple[Stream, bytes]]:
        """Output as (1: stdout, 2: stderr; bytes); nothing for a detached exec."""
        if self._streams is not None:
            async for item in self._streams:
                yield item
            if self._connected:
                async for item in self._late:
                    yield item

    async def write(self, data: bytes) -> None:
        """Send ``data`` to standard input."""
        if self._streams is not None:
            await self._streams.write(data)

    async def close_stdin(self) -> None:
        """End standard input; output goes on."""
        if self._streams is not None:
            await self._streams.close_stdin()

    async def resize(self, height: int, width: int) -> None:
        """Set the size of the terminal in characters."""
        if self._streams is not None:
            await self._streams.resize(height, width)

    @property
    def has_ended(self) -> bool:
        """Whether the exit code is known already."""
        return self._ended.done()

    async def wait(self) -> int:
        """The exit code (128 + signal), when the process has ended. Any number may wait."""
        return await asyncio.shield(self._ended)

    async def settled(self) -> None:
        """Return when nothing is left of it, after :meth:`wait`."""
        if self._letting_go is not None:
            await asyncio.shield(self._letting_go)

    async def _follow(self, launch: conmon_part.Launch) -> int:
        try:
            return (await launch.report()).data
        except InternalError:
            logger.warning("the supervisor of exec %s has vanished", self.exec_id)
            return -1
        finally:
            launch.close()
            self._letting_go = asyncio.create_task(self._let_go(), name=f"late output of exec {self.exec_id}")

    async def _let_go(self) -> None:
        await _remove(self._directory)  # here, as whoever waits for the exit code need not wait for this
        if self._connected:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._late.over.wait(), LATE_SECONDS)
        await self._late.let_go()


async def start_exec(
    runtime: OciRuntime,
    container_id: str,
    exec_id: str,
    process_spec: dict[str, Any],
    *,
    conmon: str,
    container_dir: Path,
    terminal: bool,
    open_stdin: bool,
    detach: bool,
) -> ExecSession:
    """Run ``process_spec`` (runtime-spec ``process``) in a running container.

    Raises ExecutableError (126, 127) when the command cannot be executed, Conflict when the container does not run or
    the exec id is in use, InternalError otherwise; nothing stays behind then.
    """
    directory = container_dir / "exec" / exec_id
    spec_path = directory / "process.json"
    request = conmon_part.ConmonRequest(
        container_id=container_id,
        exit_name=exec_id,
        directory=directory,
        terminal=terminal,
        open_stdin=open_stdin,
        process_spec=spec_path,
        attach=True,  # also when nobody attaches: conmon waits then, and its pipes can be found
    )
    argv = conmon_part.arguments(conmon, runtime, request)
    launching = asyncio.ensure_future(_launch(argv, request, process_spec, detach=detach))
    try:
        return await asyncio.shield(launching)
    except asyncio.CancelledError:
        await finish(_end(launching), what=f"end exec {exec_id}")
        raise


async def _end(launching: asyncio.Future[ExecSession]) -> None:
    """End an exec whose caller has gone away while it was being started."""
    with contextlib.suppress(TareError, ProcessLookupError):
        session = await launching
        session.close()
        try:
            with PidFd(session.pid) as process:
                process.send_signal(signal.SIGKILL)
        finally:
            await session.wait()
            await session.settled()


async def _launch(
    argv: list[str], request: conmon_part.ConmonRequest, process_spec: dict[str, Any], *, detach: bool
) -> ExecSession:
    """Start conmon, connect, let it run the process, take its first report. On an error nothing stays behind."""
    directory, exec_id = request.directory, request.exit_name
    try:
        await asyncio.to_thread(_prepare, directory, process_spec)
    except FileExistsError as error:
        raise Conflict(f"exec {exec_id} is already started") from error
    async with contextlib.AsyncExitStack() as undo:
        undo.push_async_callback(_undo, directory)
        launch = conmon_part.Launch(argv, directory, attach=request.attach)
        await launch.__aenter__()
        undo.callback(launch.close)
        await launch.attach_ready()
        streams = None if detach else await AttachSession.connect(directory)
        if streams is not None:
            undo.callback(streams.close)
        late = LateOutput({} if request.terminal else await asyncio.to_thread(_outputs, directory, launch.pipes))
        undo.callback(late.close)
        launch.release()
        report = await launch.report()
        if report.data <= 0:
            command = str(next(iter(process_spec["args"]), ""))
            raise await _failure(request.container_id, directory, report, command)
        undo.pop_all()
    return ExecSession(report.data, exec_id, streams=streams, late=late, launch=launch, directory=directory)


def _outputs(directory: Path, pipes: frozenset[int]) -> dict[Stream, int]:
    return open_outputs(int((directory / conmon_part.CONMON_PID).read_text()), pipes)


async def _remove(directory: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def _undo(directory: Path) -> None:
    await finish(_remove(directory), what=f"remove {directory}")


def _prepare(directory: Path, process_spec: dict[str, Any]) -> None:
    directory.parent.mkdir(exist_ok=True, mode=0o700)
    directory.mkdir(mode=0o700)
    (directory / "process.json").write_text(json.dumps(process_spec))


async def _failure(container_id: str, directory: Path, report: conmon_part.Report, command: str) -> TareError:
    logged = await asyncio.to_thread(last_error, directory / LOG_NAME)
    message = logged or error_in(report.message) or report.message.strip()
    lowered = message.lower()
    stopped = "cannot exec" in lowered and ("stopped" in lowered or "paused" in lowered)
    if stopped or f"the container `{container_id}` is not running" in message:
        return Conflict(f"container {container_id} is not running: {message}")
    return execution_error(EXEC_FAILED, message, command=command, verb="exec failed")
