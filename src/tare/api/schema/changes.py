"""``--change`` of ``import`` and ``commit``: Dockerfile instructions that only touch the configuration."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from tare.build.dockerfile.errors import DockerfileError
from tare.build.dockerfile.expansion import expand
from tare.build.dockerfile.instructions import (
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Onbuild,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from tare.build.dockerfile.parser import parse_nodes
from tare.build.dockerfile.typed import to_instruction
from tare.build.interpreter import expand_port, healthcheck_of
from tare.errors import InvalidArgument
from tare.model.signals import parse_signal
from tare.oci.image import ExecutionConfig

INSTRUCTIONS = frozenset(
    {
        "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME",
        "WORKDIR",
    }
)  # fmt: skip
_SHELL = ("/bin/sh", "-c")


def config_from_changes(
    changes: Sequence[str], environment: Sequence[str] = (), working_dir: str = ""
) -> ExecutionConfig:
    """The configuration that ``changes`` describe; they may refer to variables of ``environment`` (``NAME=value``).

    A relative WORKDIR starts at ``working_dir``. Raises InvalidArgument for an instruction that is wrong, or does not
    fit here.
    """
    if not changes:
        return ExecutionConfig()
    if not "".join(changes).strip():
        raise InvalidArgument("file with no instructions", hint="--change takes one, such as ENV NAME=value")
    reader = _Changes(environment, working_dir)
    try:
        parsed = parse_nodes("\n".join(changes), "change")
        for node in parsed.nodes:
            if node.name.upper() not in INSTRUCTIONS:
                raise InvalidArgument(
                    f"{node.original.split()[0]} is not a valid change command",
                    hint=f"known are {', '.join(sorted(INSTRUCTIONS))}",
                )
            reader.apply(to_instruction(node, parsed.source, parsed.directives.escape))
    except DockerfileError as error:
        raise InvalidArgument(error.reason, hint=error.hint, code=error.code) from error
    return ExecutionConfig(**reader.values)


class _Changes:
    """Takes instructions one by one; :attr:`values` are the members of the configuration so far."""

    def __init__(self, environment: Sequence[str], working_dir: str) -> None:
        self.values: dict[str, Any] = {}
        self._known = dict(item.partition("=")[::2] for item in environment)
        self._directory = working_dir or "/"

    def apply(self, instruction: Instruction) -> None:
        """Add what the instruction says. Raises InvalidArgument."""
        values, word = self.values, self._word
        match instruction:
            case Cmd(command=command):
                values["cmd"] = _words(command)
            case Entrypoint(command=command):
                values["entrypoint"] = _words(command)
            case Env(pairs=pairs):
                given = {word(name): word(value) for name, value in pairs}
                values.setdefault("env", []).extend(f"{name}={value}" for name, value in given.items())
                self._known |= given
            case Label(pairs=pairs):
                values.setdefault("labels", {}).update({word(name): word(value) for name, value in pairs})
            case Expose(ports=ports):
                exposed = values.setdefault("exposed_ports", {})
                exposed.update({port: {} for text in ports for port in _ports(word(text))})
            case Volume(paths=paths):
                values.setdefault("volumes", {}).update({word(path): {} for path in paths})
            case User(user=user):
                values["user"] = word(user)
            case Workdir(path=path):
                self._directory = posixpath.normpath(posixpath.join(self._directory, word(path)))
                values["working_dir"] = self._directory
            case StopSignal(signal=signal):
                values["stop_signal"] = word(signal)
                parse_signal(values["stop_signal"])
            case Onbuild(expression=expression):
                values.setdefault("on_build", []).append(expression)
            case Healthcheck():
                values["healthcheck"] = healthcheck_of(instruction)
            case _:
                raise InvalidArgument(f"{type(instruction).__name__.upper()} is not a valid change command")

    def _word(self, text: str) -> str:
        return expand(text, self._known)


def _words(command: Command) -> list[str]:
    return [*_SHELL, *command.args] if command.shell else list(command.args)


def _ports(text: str) -> list[str]:
    try:
        return expand_port(text)
    except InvalidArgument as error:
        raise InvalidArgument(f"Invalid containerPort: {text}", hint=error.hint) from error
