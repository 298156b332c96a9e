"""Post-mortem of build steps: shells in the file systems that failed steps left.

A shell is a build step that a person types: it is prepared by the executor of the builds, on a writable copy of what
the step left, and run under conmon for its terminal. It is no container: containers have an image and a row, are
listed, and outlive their client, while a shell has a step's surroundings and ends with its client or its engine. What a
killed engine leaves of it lies where build steps lie, and goes with them at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tare.base.shielding import finish
from tare.build.builder import Builder
from tare.build.kept import KeptStep, KeptSteps
from tare.build.ops.keeping import Visit
from tare.engine.executor import PreparedStep, StepExecutor
from tare.errors import Conflict, ExecutableError, NotFound, Unavailable
from tare.model import new_id
from tare.runtime.attach import AttachSession
from tare.runtime.supervisor import Supervisor

logger = logging.getLogger(__name__)

KEPT_AFTER_END = 300.0  # seconds an ended shell's exit code can still be asked for
DEFAULT_SHELL = "/bin/sh"
LOST = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellRequest:
    """A shell, or ``command``, in a kept step; ``size`` is the terminal's height and width in characters.

    Empty ``shell`` is the one that the step was run by; ``user`` None is the step's.
    """

    command: tuple[str, ...] = ()
    shell: str = ""
    user: str | None = None
    before: bool = False
    tty: bool = False
    size: tuple[int, int] | None = None


class StepShell:
    """A process in a kept step; an attachment to its streams. It ends when it is closed."""

    def __init__(self, step: KeptStep, asked: ShellRequest) -> None:
        self.id = new_id()
        self.step = step
        self.asked = asked
        self.exit_code: int | None = None
        self._gone = asyncio.Event()
        self._session: AttachSession | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether anything of it is left."""
        return self._task is not None and not self._task.done()

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        """Output as (1: stdout or terminal, 2: stderr; bytes)."""
        if self._session is not None:
            async for stream, data in self._session:
                yield stream, data

    async def write(self, data: bytes) -> None:
        """Send to standard input."""
        if self._session is not None:
            await self._session.write(data)

    async def close_stdin(self) -> None:
        """Send end of file."""
        if self._session is not None:
            await self._session.close_stdin()

    async def resize(self, height: int, width: int) -> None:
        """Set the terminal's size in characters. Raises Conflict when it has ended."""
        if self._session is None or not self.running:
            raise Conflict(f"shell {self.id[:12]} has ended")
        await self._session.resize(height, width)

    async def wait(self) -> int:
        """The exit code, once everything that belongs to the shell is gone."""
        if self._task is not None:
            await asyncio.wait([self._task])
        return LOST if self.exit_code is None else self.exit_code

    def close(self) -> None:
        """End it: what runs is killed, what was written is thrown away. Idempotent."""
        self._gone.set()
        if self._session is not None:
            self._session.close()


class Debugging:
    """The failed steps that are kept, and the shells in them."""

    def __init__(self, *, builder: Builder, executor: StepExecutor, supervisor: Supervisor) -> None:
        self._builder = builder
        self._executor = executor
        self._supervisor = supervisor
        self._shells: dict[str, StepShell] = {}
        self._closing = False

    @property
    def steps(self) -> KeptSteps:
        """The failed steps that are kept: list, find, remove, prune."""
        return self._builder.kept

    async def find_step(self, reference: str) -> KeptStep:
        """A step that can be entered, failed or cached. Raises NotFound, InvalidArgument."""
        return await self._builder.find_step(reference)

    async def open(self, reference: str, asked: ShellRequest) -> StepShell:
        """Start a shell in the step ``reference``.

        Raises NotFound (step, user, file system), InvalidArgument, ExecutableError when there is no such program.
        """
        if self._closing:
            raise Unavailable("the engine is stopping", hint="try again when it runs")
        shell = StepShell(await self.find_step(reference), asked)
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        shell._task = asyncio.create_task(self._live(shell, started), name=f"shell {shell.id[:12]}")
        shell._task.add_done_callback(lambda _: self._ended(shell))
        self._shells[shell.id] = shell
        try:
            await asyncio.shield(started)
        except BaseException:
            self._shells.pop(shell.id, None)
            shell.close()
            await finish(asyncio.wait([shell._task]), what=f"shell {shell.id[:12]}")
            if started.done():
                started.exception()  # nobody else will ask for it
            raise
        return shell

    def find(self, shell_id: str) -> StepShell:
        """A shell that runs or has just ended. Raises NotFound."""
        try:
            return self._shells[shell_id]
        except KeyError:
            raise NotFound(f"no such shell: {shell_id}") from None

    def _ended(self, shell: StepShell) -> None:
        asyncio.get_running_loop().call_later(KEPT_AFTER_END, self._shells.pop, shell.id, None)

    async def _live(self, shell: StepShell, started: asyncio.Future[None]) -> None:
        """The whole life of a shell; what stops it from starting goes to ``started``."""
        visit = Visit(argv=command_of(shell.step, shell.asked), user=shell.asked.user, before=shell.asked.before)
        try:
            async with (
                self._builder.entered(shell.step, visit) as request,
                self._executor.prepared(request, terminal=shell.asked.tty) as prepared,
            ):
                await self._run(shell, prepared, started)
        except Exception as error:
            if started.done():
                logger.exception("shell %s: lost track of its end", shell.id[:12])
            else:
                started.set_exception(_explained(error, shell))

    async def _run(self, shell: StepShell, prepared: PreparedStep, started: asyncio.Future[None]) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(finish, self._end(shell, prepared), what=f"end of shell {shell.id[:12]}")
            await self._supervisor.create(
                prepared.id,
                prepared.bundle,
                log_path=None,
                terminal=shell.asked.tty,
                open_stdin=True,
                stdin_once=not shell.asked.tty,
            )
            shell._session = await self._supervisor.attach(prepared.id)
            if shell.asked.tty and shell.asked.size:
                self._supervisor.resize(prepared.id, *shell.asked.size)
            await self._supervisor.start(prepared.id)
            started.set_result(None)
            waiting = asyncio.create_task(self._supervisor.wait(prepared.id))
            leaving = asyncio.create_task(shell._gone.wait())
            done, rest = await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            if waiting in done:
                shell.exit_code = waiting.result().code

    async def _end(self, shell: StepShell, prepared: PreparedStep) -> None:
        if shell._gone.is_set():
            shell.close()  # it was left while it started: conmon must not wait for a reader
        await self._supervisor.delete(prepared.id)

    async def close(self) -> None:
        """End all shells; nothing of them is left in the kernel then."""
        self._closing = True
        tasks = [shell._task for shell in self._shells.values() if shell._task is not None and shell.running]
        for shell in self._shells.values():
            shell.close()
        if tasks:
            await asyncio.wait(tasks)


def command_of(step: KeptStep, asked: ShellRequest) -> tuple[str, ...]:
    """What is executed: the command that was asked for, else a shell: the one given, else the step's own."""
    if asked.command:
        return asked.command
    if asked.shell:
        return (asked.shell,)
    own = step.argv[0] if step.argv else ""
    return (own,) if own.startswith("/") and own.endswith("sh") else (DEFAULT_SHELL,)


def _explained(error: Exception, shell: StepShell) -> Exception:
    """Say what can be done where the root file system has no shell."""
    if not isinstance(error, ExecutableError) or shell.asked.command:
        return error
    program = command_of(shell.step, shell.asked)[0]
    return ExecutableError(
        f"{shell.step.reference}: cannot start {program}: the step's root file system has no such shell that runs",
        exit_code=error.exit_code,
        hint=f"name another with --shell, or a command that it has: tare debug {shell.step.reference} COMMAND",
        code="no-shell",
    )
