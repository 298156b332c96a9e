"""``docker import --change``: Dockerfile instructions that only touch the configuration."""

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
    Label,
    Onbuild,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from tare.build.dockerfile.parser import parse_nodes
from tare.build.dockerfile.typed import to_instruction
from tare.errors import InvalidArgument
from tare.oci.image import ExecutionConfig

_SHELL = ("/bin/sh", "-c")


def config_from_changes(changes: Sequence[str]) -> ExecutionConfig:
    """The configuration that ``changes`` describe. Raises InvalidArgument for an instruction that does not fit here."""
    values: dict[str, Any] = {}
    if not changes:
        return ExecutionConfig()
    parsed = parse_nodes("\n".join(changes), "change")
    for node in parsed.nodes:
        instruction = to_instruction(node, parsed.source, parsed.directives.escape)
        match instruction:
            case Cmd(command=command):
                values["cmd"] = _words(command)
            case Entrypoint(command=command):
                values["entrypoint"] = _words(command)
            case Env(pairs=pairs):
                values.setdefault("env", []).extend(f"{name}={expand(value, {})}" for name, value in pairs)
            case Label(pairs=pairs):
                values.setdefault("labels", {}).update({expand(name, {}): expand(value, {}) for name, value in pairs})
            case Expose(ports=ports):
                values.setdefault("exposed_ports", {}).update({_port(expand(port, {})): {} for port in ports})
            case Volume(paths=paths):
                values.setdefault("volumes", {}).update({expand(path, {}): {} for path in paths})
            case User(user=user):
                values["user"] = expand(user, {})
            case Workdir(path=path):
                values["working_dir"] = expand(path, {})
            case StopSignal(signal=signal):
                values["stop_signal"] = expand(signal, {})
            case Onbuild(expression=expression):
                values.setdefault("on_build", []).append(expression)
            case _:
                raise InvalidArgument(f"{node.name} is not a valid change command")
    return ExecutionConfig(**values)


def _words(command: Command) -> list[str]:
    return [*_SHELL, *command.args] if command.shell else list(command.args)


def _port(port: str) -> str:
    return port if "/" in port else f"{port}/tcp"
