"""Commands run in running containers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from tare.engine.bundle import BundleWriter
from tare.engine.events import Events
from tare.engine.failures import Failures
from tare.engine.records import ContainerRecords
from tare.engine.requests import Attachment, ExecConfig, ExecState
from tare.errors import Conflict, ExecutableError, InvalidArgument, NotFound
from tare.kernel.cgroup_moves import hasten_moves
from tare.model import ContainerStatus, new_id
from tare.model.container import Container
from tare.runtime.exec_session import ExecSession
from tare.runtime.supervisor import Supervisor

logger = logging.getLogger(__name__)

KEPT_AFTER_END = 300.0  # seconds an ended exec can still be inspected


class Execs:
    """The execs of this engine's life; they are not stored, as in Docker."""

    def __init__(
        self,
        *,
        records: ContainerRecords,
        bundles: BundleWriter,
        supervisor: Supervisor,
        events: Events,
        failures: Failures,
    ) -> None:
        self._records = records
        self._bundles = bundles
        self._supervisor = supervisor
        self._events = events
        self._failures = failures
        self._execs: dict[str, ExecState] = {}
        self._sessions: dict[str, ExecSession] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def create(self, container_ref: str, config: ExecConfig) -> str:
        """Prepare an exec and return its id.

        Raises NotFound, Conflict when the container does not run, InvalidArgument for a user that it does not know.
        """
        asyncio.get_running_loop().run_in_executor(None, hasten_moves)  # whoever prepares one will start it soon
        container = await self._running(container_ref)
        if not config.cmd:
            raise InvalidArgument("No exec command specified")
        if config.user:  # one that the image does not know is refused here, as in Docker
            async with self._failures.explaining(container, config):
                await self._bundles.exec_process(container, config, terminal=config.tty)
        state = ExecState(id=new_id(), container_id=container.id, config=config)
        self._execs[state.id] = state
        self._emit(container, state, "exec_create")
        return state.id

    async def start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] | None = None
    ) -> Attachment | None:
        """Run it; returns its streams unless ``detach``. Raises NotFound, Conflict, ExecutableError."""
        state, container = await self._startable(exec_id)
        state.started = True
        self._emit(container, state, "exec_start")
        try:
            async with self._failures.explaining(container, state.config):
                await self._failures.foresee(container, self._supervisor.runtime.of(container.id), state.config)
                process = await self._process(container, state, terminal=tty)
                session = await self._supervisor.exec(
                    container.id,
                    exec_id,
                    process,
                    terminal=tty,
                    open_stdin=state.config.attach_stdin and not detach,
                    detach=detach,
                )
        except BaseException as error:
            state.exit_code = getattr(error, "exit_code", 126)
            raise
        state.running = True
        state.pid = session.pid
        self._sessions[exec_id] = session
        size = console_size or state.config.console_size
        if tty and size and any(size):
            await session.resize(*size)
        task = asyncio.create_task(self._watch(container, state, session), name=f"exec {exec_id[:12]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None if detach else session

    async def startable(self, exec_id: str) -> ExecState:
        """The exec, which may be started now. Raises NotFound, Conflict when it has run or its container does not."""
        return (await self._startable(exec_id))[0]

    async def _startable(self, exec_id: str) -> tuple[ExecState, Container]:
        state = self.inspect_now(exec_id)
        container = await self._running(state.container_id)
        if state.started:
            raise Conflict(f"exec {exec_id} has already run", hint="make a new one")
        return state, container

    async def _process(self, container: Container, state: ExecState, *, terminal: bool) -> dict[str, Any]:
        """What to execute; a user that the image does not know is, as in Docker, a command that cannot be executed."""
        try:
            return await self._bundles.exec_process(container, state.config, terminal=terminal)
        except InvalidArgument as error:
            raise ExecutableError(error.message, exit_code=126, hint=error.hint) from error

    async def _watch(self, container: Container, state: ExecState, session: ExecSession) -> None:
        try:
            state.exit_code = await session.wait()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("exec %s: lost track of its end", state.id[:12])
            state.exit_code = 255
        state.running = False
        self._emit(container, state, "exec_die", {"exitCode": str(state.exit_code)})
        self._sessions.pop(state.id, None)
        asyncio.get_running_loop().call_later(KEPT_AFTER_END, self._execs.pop, state.id, None)

    def inspect_now(self, exec_id: str) -> ExecState:
        """The exec as it is now. Raises NotFound (``No such exec instance: x``)."""
        try:
            return self._execs[exec_id]
        except KeyError:
            raise NotFound(f"No such exec instance: {exec_id}") from None

    async def inspect(self, exec_id: str) -> ExecState:
        """The exec; one whose process has ended already is settled first, so that clients see the exit code."""
        state = self.inspect_now(exec_id)
        session = self._sessions.get(exec_id)
        if session is not None and state.running and session.has_ended:
            state.exit_code = await session.wait()
            state.running = False
        return state

    def of_container(self, container_id: str) -> list[str]:
        """Ids of the execs that run in a container."""
        return [state.id for state in self._execs.values() if state.container_id == container_id and state.running]

    async def resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the terminal's size. Raises NotFound, Conflict when it does not run."""
        self.inspect_now(exec_id)
        session = self._sessions.get(exec_id)
        if session is None:
            raise Conflict(f"exec {exec_id} is not running")
        await session.resize(height, width)

    async def _running(self, reference: str) -> Container:
        container = await self._records.get(reference)
        status = ContainerStatus(container.state.status)
        if status is ContainerStatus.PAUSED:
            raise Conflict(f"Container {reference} is paused, unpause the container before exec")
        if not status.can_exec:
            raise Conflict(f"container {container.id} is not running")
        return container

    def _emit(self, container: Container, state: ExecState, action: str, extra: dict[str, str] | None = None) -> None:
        name = action if action == "exec_die" else f"{action}: {command_words(state.config.cmd)}"
        attributes = {**(container.config.labels or {}), "image": container.image_name, "name": container.name}
        self._events.publish("container", name, container.id, {**attributes, "execID": state.id, **(extra or {})})

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def command_words(command: Sequence[str]) -> str:
    """A command in the name of an event: program and arguments with a space between them, also without arguments."""
    return f"{command[0]} {' '.join(command[1:])}"
