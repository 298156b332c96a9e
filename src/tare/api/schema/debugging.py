"""Failed build steps, and shells in them and beside containers and images, on Tare's own routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tare.api.params import convert
from tare.engine.debugging import ShellRequest
from tare.engine.shells import Streams
from tare.engine.tools import ToolRequest
from tare.errors import InvalidArgument

if TYPE_CHECKING:
    from tare.build.kept import KeptStep
    from tare.engine.shells import Shell
    from tare.engine.targets import Target


class _Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    command: list[str] = []
    script: str = ""
    shell: str = ""
    tty: bool = False
    size: tuple[int, int] | None = None

    def check(self) -> None:
        """Raises InvalidArgument for what cannot be asked for at once."""
        if self.command and self.shell:
            raise InvalidArgument("a shell and a command were asked for", hint="give one of them")
        if self.command and self.script:
            raise InvalidArgument("a script and a command were asked for", hint="give one of them")

    @property
    def streams(self) -> Streams:
        return Streams(tty=self.tty, size=self.size if self.size and all(self.size) else None)


class _ShellBody(_Body, kw_only=True, forbid_unknown_fields=True):
    user: str | None = None
    before: bool = False


class _ToolBody(_Body, kw_only=True, forbid_unknown_fields=True):
    image: str = ""
    user: str = ""
    env: list[str] = []
    write: bool = False
    privileged: bool = False
    cap_add: list[str] = []


def read_shell(document: dict[str, Any]) -> ShellRequest:
    """The body of ``POST /tare/steps/{id}/shell``, fields of ShellRequest by their names. Raises InvalidArgument."""
    body = convert(document, _ShellBody)
    body.check()
    return ShellRequest(
        command=tuple(body.command),
        script=body.script,
        shell=body.shell,
        user=body.user,
        before=body.before,
        streams=body.streams,
    )


def read_tools(document: dict[str, Any]) -> ToolRequest:
    """The body of ``POST /tare/debug``, fields of ToolRequest by their names. Raises InvalidArgument."""
    body = convert(document, _ToolBody)
    body.check()
    for item in body.env:
        if not item.partition("=")[0] or "=" not in item:
            raise InvalidArgument(f"invalid environment variable: {item!r}", hint="write NAME=value")
    return ToolRequest(
        command=tuple(body.command),
        script=body.script,
        shell=body.shell,
        image=body.image,
        user=body.user,
        env=tuple(body.env),
        write=body.write,
        privileged=body.privileged,
        cap_add=tuple(body.cap_add),
        streams=body.streams,
    )


def render_target(target: Target, tool_image: str) -> dict[str, Any]:
    """What a name stands for; ``state`` is a container's, ``tool_image`` what is used beside it by default."""
    identifier, state = target.name, ""
    if target.container is not None:
        identifier, state = target.container.id, str(target.container.state.status)
    elif target.image is not None:
        identifier = str(target.image.id)
    return {"type": target.kind, "name": target.name, "id": identifier, "state": state, "tool_image": tool_image}


def render_step(step: KeptStep) -> dict[str, Any]:
    """A step: ``created`` in seconds since the epoch, ``size`` in bytes of what the step changed."""
    return {
        "id": step.reference,
        "key": step.key,
        "stage": step.stage,
        "instruction": step.text,
        "place": step.place,
        "command": list(step.argv),
        "working_dir": step.cwd,
        "user": step.user,
        "network": step.network,
        "mounts": [{"type": item.mount.kind, "target": item.mount.target} for item in step.mounts],
        "withheld": list(step.withheld),
        "failed": step.failed,
        "exit_code": step.exit_code,
        "output": list(step.output),
        "created": step.created,
        "size": step.bytes,
    }


def render_shell(shell: Shell) -> dict[str, Any]:
    """A shell; ``exit_code`` is null while it runs and when it was ended before it exited.

    ``reason`` says what ended it, ``notes`` what it does not show.
    """
    return {
        "id": shell.id,
        "subject": shell.subject,
        "running": shell.running,
        "exit_code": shell.exit_code,
        "reason": shell.reason,
        "notes": list(shell.notes),
    }
