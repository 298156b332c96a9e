"""``--change`` of ``import`` and ``commit``: Dockerfile instructions that only touch the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tare.build.dockerfile.expansion import expand
from tare.build.dockerfile.instructions import (
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Onbuild,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from tare.build.dockerfile.parser import parse_nodes
from tare.build.dockerfile.typed import to_instruction
from tare.build.interpreter import healthcheck_of
from tare.errors import InvalidArgument
from tare.oci.image import ExecutionConfig

INSTRUCTIONS = frozenset(
    {
        "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME",
        "WORKDIR",
    }
)  # fmt: skip
_SHELL = ("/bin/sh", "-c")


def config_from_changes(changes: Sequence[str], environment: Sequence[str] = ()) -> ExecutionConfig:
    """The configuration that ``changes`` describe; they may refer to variables of ``environment`` (``NAME=value``).

    Raises InvalidArgument for an instruction that does not fit here.
    """
    values: dict[str, Any] = {}
    known = dict(item.partition("=")[::2] for item in environment)
    if not changes:
        return ExecutionConfig()
    parsed = parse_nodes("\n".join(changes), "change")
    for node in parsed.nodes:
        if node.name.upper() not in INSTRUCTIONS:
            raise InvalidArgument(f"{node.name.upper()} is not a valid change command")
        instruction = to_instruction(node, parsed.source, parsed.directives.escape)
        match instruction:
            case Cmd(command=command):
                values["cmd"] = _words(command)
            case Entrypoint(command=command):
                values["entrypoint"] = _words(command)
            case Env(pairs=pairs):
                given = {expand(name, known): expand(value, known) for name, value in pairs}
                values.setdefault("env", []).extend(f"{name}={value}" for name, value in given.items())
                known |= given
            case Label(pairs=pairs):
                values.setdefault("labels", {}).update(
                    {expand(name, known): expand(value, known) for name, value in pairs}
                )
            case Expose(ports=ports):
                values.setdefault("exposed_ports", {}).update({_port(expand(port, known)): {} for port in ports})
            case Volume(paths=paths):
                values.setdefault("volumes", {}).update({expand(path, known): {} for path in paths})
            case User(user=user):
                values["user"] = expand(user, known)
            case Workdir(path=path):
                values["working_dir"] = expand(path, known)
            case StopSignal(signal=signal):
                values["stop_signal"] = expand(signal, known)
            case Onbuild(expression=expression):
                values.setdefault("on_build", []).append(expression)
            case Healthcheck():
                values["healthcheck"] = healthcheck_of(instruction)
            case _:
                raise InvalidArgument(f"{node.name} is not a valid change command")
    return ExecutionConfig(**values)


def _words(command: Command) -> list[str]:
    return [*_SHELL, *command.args] if command.shell else list(command.args)


def _port(port: str) -> str:
    return port if "/" in port else f"{port}/tcp"
