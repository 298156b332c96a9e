"""Debugging: shells in the file systems of build steps, and beside containers and images that have no shell.

A shell in a step is a build step that a person types: it is prepared by the executor of the builds, on a writable copy
of what the step left. A shell beside a container or image has a tool image for its root and sees the other one below
``/target``; see ``tools.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tare.build.builder import Builder
from tare.build.kept import KeptStep, KeptSteps
from tare.build.ops.keeping import Visit
from tare.engine.executor import PreparedStep, StepExecutor
from tare.engine.shells import PIPES, Shell, Shells, Streams
from tare.engine.targets import Target, Targets
from tare.engine.tools import ToolRequest, Tools
from tare.errors import ExecutableError, InvalidArgument

DEFAULT_SHELL = "/bin/sh"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellRequest:
    """A shell, ``command``, or ``script`` for the shell, in a kept step.

    Empty ``shell`` is the one that the step was run by; ``user`` None is the step's.
    """

    command: tuple[str, ...] = ()
    script: str = ""
    shell: str = ""
    user: str | None = None
    before: bool = False
    streams: Streams = PIPES


class Debugging:
    """The failed steps that are kept, and the shells in them and beside containers and images."""

    def __init__(
        self, *, builder: Builder, executor: StepExecutor, shells: Shells, targets: Targets, tools: Tools
    ) -> None:
        self._builder = builder
        self._executor = executor
        self._targets = targets
        self._tools = tools
        self.shells = shells

    @property
    def steps(self) -> KeptSteps:
        """The failed steps that are kept: list, find, remove, prune."""
        return self._builder.kept

    @property
    def tool_image(self) -> str:
        """The image that tools come from where none is named."""
        return self._tools.image

    async def find_step(self, reference: str) -> KeptStep:
        """A step that can be entered, failed or cached. Raises NotFound, InvalidArgument."""
        return await self._builder.find_step(reference)

    async def find_target(self, name: str, kind: str = "") -> Target:
        """What a user names: see :meth:`tare.engine.targets.Targets.find`."""
        return await self._targets.find(name, kind)

    async def open(self, reference: str, asked: ShellRequest) -> Shell:
        """Start a shell in the step ``reference``.

        Raises NotFound (step, user, file system), InvalidArgument, ExecutableError when there is no such program.
        """
        step = await self.find_step(reference)
        shell = Shell(step.reference, asked.streams)
        visit = Visit(argv=command_of(step, asked), user=asked.user, before=asked.before)

        @asynccontextmanager
        async def prepare() -> AsyncIterator[PreparedStep]:
            async with (
                self._builder.entered(step, visit) as request,
                self._executor.prepared(request, terminal=asked.streams.tty) as prepared,
            ):
                yield prepared

        try:
            await self.shells.open(shell, prepare)
        except ExecutableError as error:
            raise _explained(error, step, asked) from error
        return shell

    async def open_beside(self, target: Target, asked: ToolRequest) -> Shell:
        """Start a shell with tools beside a container or image.

        Raises NotFound (tool image, user), InvalidArgument, Conflict for a container that is being removed,
        ExecutableError when there is no such program.
        """
        if target.kind == "step":
            raise InvalidArgument(
                f"{target.name} is a build step, which has its own file system for a root",
                hint=f"tare debug {target.name}",
                code="is-a-step",
            )
        shell = Shell(target.title, asked.streams)
        await self.shells.open(shell, lambda: self._tools.prepared(target, asked, shell))
        return shell

    async def close(self) -> None:
        """End all shells; nothing of them is left in the kernel then."""
        await self.shells.close()


def command_of(step: KeptStep, asked: ShellRequest) -> tuple[str, ...]:
    """What is executed: the command that was asked for, else a shell: the one given, else the step's own."""
    if asked.command:
        return asked.command
    own = step.argv[0] if step.argv else ""
    usable = own if own.startswith("/") and own.endswith("sh") else DEFAULT_SHELL
    shell = asked.shell or usable
    return (shell, "-c", asked.script) if asked.script else (shell,)


def _explained(error: ExecutableError, step: KeptStep, asked: ShellRequest) -> ExecutableError:
    """Say what can be done where the root file system has no shell."""
    if asked.command:
        return error
    program = command_of(step, asked)[0]
    return ExecutableError(
        f"{step.reference}: cannot start {program}: the step's root file system has no such shell that runs",
        exit_code=error.exit_code,
        hint=f"name another with --shell, or a command that it has: tare debug {step.reference} COMMAND",
        code="no-shell",
    )
