"""Failed build steps and the shells in them, on Tare's own routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tare.api.params import convert
from tare.engine.debugging import ShellRequest
from tare.errors import InvalidArgument

if TYPE_CHECKING:
    from tare.build.kept import KeptStep
    from tare.engine.debugging import StepShell


class _ShellBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    command: list[str] = []
    shell: str = ""
    user: str | None = None
    before: bool = False
    tty: bool = False
    size: tuple[int, int] | None = None


def read_shell(document: dict[str, Any]) -> ShellRequest:
    """The body of ``POST /tare/steps/{id}/shell``, fields of ShellRequest by their names. Raises InvalidArgument."""
    body = convert(document, _ShellBody)
    if body.command and body.shell:
        raise InvalidArgument("a shell and a command were asked for", hint="give one of them")
    return ShellRequest(
        command=tuple(body.command),
        shell=body.shell,
        user=body.user,
        before=body.before,
        tty=body.tty,
        size=body.size if body.size and all(body.size) else None,
    )


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


def render_shell(shell: StepShell) -> dict[str, Any]:
    """A shell; ``exit_code`` is null while it runs and when it was ended before it exited."""
    return {"id": shell.id, "step": shell.step.reference, "running": shell.running, "exit_code": shell.exit_code}
