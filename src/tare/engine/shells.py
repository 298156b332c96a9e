"""Shells for people: processes that live as long as their client looks at them.

A shell is prepared by somebody else (a build step's surroundings, a tool image beside a container), run under conmon
for its terminal, and gone with its client or its engine. It is no container: it has no row, and is not listed. What a
killed engine leaves of it lies where build steps lie, and goes with them at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

from tare.base.shielding import finish
from tare.engine.executor import PreparedStep
from tare.errors import Conflict, NotFound, Unavailable
from tare.model import new_id
from tare.runtime.attach import AttachSession
from tare.runtime.supervisor import Supervisor

logger = logging.getLogger(__name__)

KEPT_AFTER_END = 300.0  # seconds an ended shell's exit code can still be asked for
LOST = 255
KILLED = 137

Preparation = AbstractAsyncContextManager[PreparedStep]


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """How a client is connected; ``size`` is the terminal's height and width in characters."""

    tty: bool = False
    size: tuple[int, int] | None = None


PIPES = Streams()


class Shell:
    """A process for a client; an attachment to its streams. It ends when it is closed.

    ``subject`` is what it is in, such as ``step:3f2a91c0``. ``reason`` is why it was ended, if it was; ``notes`` are
    sentences about what it does not show.
    """

    def __init__(self, subject: str, streams: Streams) -> None:
        self.id = new_id()
        self.subject = subject
        self.streams = streams
        self.exit_code: int | None = None
        self.reason = ""
        self.notes: tuple[str, ...] = ()
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

    def leave(self, why: str) -> None:
        """End it because of what happens to ``subject``, such as ``has ended``: its exit code is that of a kill."""
        self.reason = self.reason or f"{self.subject} {why}"
        self.close()


class Shells:
    """The shells of an engine."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._shells: dict[str, Shell] = {}
        self._closing = False

    async def open(self, shell: Shell, prepare: Callable[[], Preparation]) -> None:
        """Start ``shell`` in what ``prepare`` gives, which is undone when the shell has ended.

        Raises what the preparation raises, and ExecutableError when the command cannot be executed; nothing is left
        then.
        """
        if self._closing:
            raise Unavailable("the engine is stopping", hint="try again when it runs")
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        shell._task = asyncio.create_task(self._live(shell, prepare, started), name=f"shell {shell.id[:12]}")
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

    def find(self, shell_id: str) -> Shell:
        """A shell that runs or has just ended. Raises NotFound."""
        try:
            return self._shells[shell_id]
        except KeyError:
            raise NotFound(f"no such shell: {shell_id}") from None

    def _ended(self, shell: Shell) -> None:
        asyncio.get_running_loop().call_later(KEPT_AFTER_END, self._shells.pop, shell.id, None)

    async def _live(self, shell: Shell, prepare: Callable[[], Preparation], started: asyncio.Future[None]) -> None:
        """The whole life of a shell; what stops it from starting goes to ``started``."""
        try:
            async with prepare() as prepared:
                await self._run(shell, prepared, started)
        except Exception as error:
            if started.done():
                logger.exception("shell %s: lost track of its end", shell.id[:12])
            else:
                started.set_exception(error)

    async def _run(self, shell: Shell, prepared: PreparedStep, started: asyncio.Future[None]) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(finish, self._end(shell, prepared), what=f"end of shell {shell.id[:12]}")
            await self._supervisor.create(
                prepared.id,
                prepared.bundle,
                log_path=None,
                terminal=shell.streams.tty,
                open_stdin=True,
                stdin_once=not shell.streams.tty,
            )
            await prepared.created()
            shell._session = await self._supervisor.attach(prepared.id)
            if shell.streams.tty and shell.streams.size:
                self._supervisor.resize(prepared.id, *shell.streams.size)
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
                shell.reason = shell.reason or prepared.why_ended()
            elif shell.reason:
                shell.exit_code = KILLED

    async def _end(self, shell: Shell, prepared: PreparedStep) -> None:
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
