"""One stage's instructions, one after the other: configuration, variables, steps, history."""

from __future__ import annotations

import ipaddress
import os
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field, replace
from typing import Any

import msgspec

from tare.build import defaults, phrasing
from tare.build.copying import copy_step
from tare.build.dockerfile import instructions as ins
from tare.build.dockerfile.expansion import expand, expand_words
from tare.build.dockerfile.source import Source
from tare.build.graph import ConfigStep, Place, StageOutput, Step, WorkdirStep, Written
from tare.build.running import command_line, run_step
from tare.errors import InvalidArgument, TareError, Unsupported
from tare.model.signals import parse_signal
from tare.oci.image import ExecutionConfig, Healthcheck

_PROTOCOLS = ("tcp", "udp", "sctp")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_MERGED = ("labels", "exposed_ports", "volumes")
_MAX_EXPANDED = 64 << 20  # characters; more than any image that can be run has
_MAX_PATH = 4095  # bytes, Linux PATH_MAX less one


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a stage's instructions see from outside.

    ``origin`` maps a ``--from`` value to an origin (step id) and raises for an unknown one. ``proxies`` are predefined
    arguments that were given, ``consumed`` is told which build arguments were used.
    """

    build_args: Mapping[str, str]
    global_args: Mapping[str, str]
    proxies: Mapping[str, str]
    origin: Callable[[str, Place], str]
    consumed: Callable[[str], None]
    network: str = "default"
    allow: frozenset[str] = frozenset()
    escape: str = "\\"


@dataclass(slots=True)
class StageState:
    """A stage while it is being read; grows instruction by instruction, :meth:`finished` gives what it ends as.

    ``start`` is what it stands on, ``prefix`` begins the identifiers of its steps. ``variables`` are what words are
    expanded with and what RUN sees, of ARG and ENV the one that came last; ``args`` the declared ARGs. What
    instructions add to (variables of the image, labels, ports, volumes, triggers) grows beside ``config`` and is put
    into it at the end: a long stage takes linear time.
    """

    start: InitVar[StageOutput]
    around: Surroundings
    cmd_set: bool = False
    prefix: str = "0"
    output: StageOutput = field(init=False)
    config: ExecutionConfig = field(init=False)
    variables: dict[str, str] = field(init=False)
    args: dict[str, str | None] = field(init=False)
    steps: list[Step] = field(default_factory=list)
    _history: list[Written] = field(init=False)
    _env: dict[str, str] = field(default_factory=dict)
    _merged: dict[str, dict[str, Any]] = field(init=False)
    _triggers: list[str] = field(default_factory=list)
    _number: int = 0
    _expanded: int = 0

    def __post_init__(self, start: StageOutput) -> None:
        self.output, self.config = start, start.config
        self.variables, self.args = dict(start.variables), dict(start.args)
        self._history = list(start.history)
        self._merged = {name: dict(getattr(start.config, name) or {}) for name in _MERGED}

    def finished(self) -> StageOutput:
        """The stage after its last instruction."""
        changes: dict[str, Any] = {name: values for name, values in self._merged.items() if values}
        if self._env:
            changes["env"] = [f"{name}={value}" for name, value in self._env.items()]
        if self._triggers:
            changes["on_build"] = list(self._triggers)
        return replace(
            self.output,
            config=msgspec.structs.replace(self.config, **changes),
            history=tuple(self._history),
            variables=self.variables,
            args=self.args,
        )

    def apply(self, instruction: ins.AnyInstruction, source: Source) -> None:
        """Take in one instruction. Raises InvalidArgument or Unsupported with the Dockerfile's line."""
        place = Place(source, instruction.range)
        try:
            self._apply(instruction, place)
        except TareError as error:
            if hasattr(error, "first_line"):
                raise
            kind = source.error(error.message, instruction.range, hint=error.hint, code=error.code or "dockerfile")
            if isinstance(error, Unsupported):
                raise Unsupported(
                    f"{error.message}\n{source.name}:{kind.line}\n{kind.excerpt()}", hint=error.hint
                ) from error
            raise kind from error

    def word(self, text: str, variables: Mapping[str, str] | None = None) -> str:
        """``text`` expanded, with the stage's variables if none are given."""
        result = expand(text, self.variables if variables is None else variables, self.around.escape)
        self.count(len(result))
        return result

    def count(self, characters: int) -> None:
        """Bound what variables that contain variables can grow to. Raises InvalidArgument."""
        self._expanded += characters
        if self._expanded > _MAX_EXPANDED:
            raise InvalidArgument(
                f"the values of this stage's variables make more than {_MAX_EXPANDED >> 20} MiB of text",
                hint="keep large values in files",
                code="expansion-too-large",
            )

    def _apply(self, instruction: ins.AnyInstruction, place: Place) -> None:
        match instruction:
            case ins.Run():
                run, message = run_step(instruction, self, place, self._next_id())
                self._layer(run, message)
            case ins.Copy() | ins.Add():
                step, message = copy_step(instruction, self, place, self._next_id())
                self._layer(step, message)
            case ins.Workdir():
                self._workdir(instruction, place)
            case ins.Arg():
                self._arg(instruction, place)
            case _:
                self._configure(instruction, place)

    def _next_id(self) -> str:
        self._number += 1
        return f"{self.prefix}.{self._number}"

    def _layer(self, step: Step, created_by: str, *, by_builder: bool = True) -> None:
        named = {name: self.variables[name] for name in _VARIABLE.findall(step.text) if name in self.variables}
        self.steps.append(replace(step, variables=named, arguments=frozenset(self.args)))
        text = f"{created_by} # buildkit" if by_builder else created_by
        self._history.append(Written(step=step.id, created_by=text, empty=False))
        self.output = replace(self.output, tip=step.id)

    def _note(self, instruction: ins.Instruction, place: Place, created_by: str, **changes: object) -> None:
        """A step that only configures: ``changes`` are fields of the configuration; no text, no history entry."""
        step = ConfigStep(
            id=self._next_id(),
            stage=self.output.name,
            text=phrasing.one_line(instruction.original),
            place=place,
            parent=self.output.tip,
        )
        self.steps.append(step)
        if changes:
            self.config = msgspec.structs.replace(self.config, **changes)
        if created_by:
            self._history.append(Written(step=step.id, created_by=created_by, empty=True))

    def _arg(self, instruction: ins.Arg, place: Place) -> None:
        shown = []
        for name, default in instruction.args:
            value = None if default is None else self.word(default)
            if name in self.around.build_args:
                value = self.around.build_args[name]
                self.around.consumed(name)
            elif default is None:
                value = self.around.global_args.get(name)
            self.args[name] = value
            if value is not None:
                self.variables[name] = value
            shown.append(name if value is None else f"{name}={value}")
        self._note(instruction, place, f"ARG {' '.join(shown)}")

    def _workdir(self, instruction: ins.Workdir, place: Place) -> None:
        path = posixpath.normpath(posixpath.join(self.config.working_dir or "/", self.word(instruction.path)))
        path = "/" + path.lstrip("/")
        if len(os.fsencode(path)) > _MAX_PATH:
            raise InvalidArgument(
                f"the working directory has more than {_MAX_PATH} bytes", hint="begin it with a slash to start anew"
            )
        created_by = f"WORKDIR {path}"
        if path == "/":
            self._note(instruction, place, created_by, working_dir=path)
            return
        step = WorkdirStep(
            id=self._next_id(),
            stage=self.output.name,
            text=phrasing.one_line(instruction.original),
            place=place,
            parent=self.output.tip,
            path=path,
            user=self.config.user,
        )
        self.config = msgspec.structs.replace(self.config, working_dir=path)
        self._layer(step, created_by, by_builder=False)

    @property
    def shell(self) -> tuple[str, ...]:
        """What runs shell forms."""
        return tuple(self.config.shell or defaults.SHELL)

    def command(self, command: ins.Command) -> list[str]:
        """The argument vector of CMD or ENTRYPOINT."""
        return list(command_line(command, self.shell).argv)

    def _configure(self, instruction: ins.AnyInstruction, place: Place) -> None:
        config = self.config
        match instruction:
            case ins.Env():
                self._set(instruction, place)
            case ins.Label():
                pairs = {self.word(name): self.word(value) for name, value in instruction.pairs}
                text = "LABEL " + " ".join(f"{name}={value}" for name, value in pairs.items())
                self._merged["labels"].update(pairs)
                self._note(instruction, place, text)
            case ins.Cmd():
                argv = self.command(instruction.command)
                self.cmd_set = True
                self._note(instruction, place, f"CMD {phrasing.quoted(argv)}", cmd=argv, args_escaped=True)
            case ins.Entrypoint():
                argv = self.command(instruction.command)
                cmd = config.cmd if self.cmd_set else None
                self._note(instruction, place, f"ENTRYPOINT {phrasing.quoted(argv)}", entrypoint=argv, cmd=cmd)
            case ins.Expose():
                ports = self._ports(instruction)
                self._merged["exposed_ports"].update({port: {} for port in ports})
                shown = f"EXPOSE [{' '.join(sorted(set(ports)))}]"
                self.count(len(shown))
                self._note(instruction, place, shown)
            case ins.Volume():
                paths = [self.word(path) for path in instruction.paths]
                if not all(paths):
                    raise InvalidArgument("VOLUME specified can not be an empty string")
                self._merged["volumes"].update({path: {} for path in paths})
                self._note(instruction, place, f"VOLUME [{' '.join(paths)}]")
            case ins.User():
                user = self.word(instruction.user)
                self._note(instruction, place, f"USER {user}", user=user)
            case _:
                self._configure_rarely(instruction, place)

    def _configure_rarely(self, instruction: ins.AnyInstruction, place: Place) -> None:
        match instruction:
            case ins.Shell():
                text = f"SHELL [{' '.join(instruction.shell)}]"
                self._note(instruction, place, text, shell=list(instruction.shell))
            case ins.StopSignal():
                signal = self.word(instruction.signal)
                parse_signal(signal)
                self._note(instruction, place, f"STOPSIGNAL {signal}", stop_signal=signal)
            case ins.Healthcheck():
                check = healthcheck_of(instruction)
                self._note(instruction, place, phrasing.healthcheck(check), healthcheck=check)
            case ins.Onbuild():
                self._triggers.append(instruction.expression)
                self._note(instruction, place, "")
            case ins.Maintainer():
                self.output = replace(self.output, author=instruction.maintainer)
                self._note(instruction, place, f"MAINTAINER {instruction.maintainer}")
            case _:
                raise Unsupported(f"{type(instruction).__name__.upper()} is not supported here")

    def _set(self, instruction: ins.Env, place: Place) -> None:
        pairs = [(self.word(name), self.word(value)) for name, value in instruction.pairs]
        if not self._env:
            self._env = dict(item.partition("=")[::2] for item in self.config.env or [])
        self._env.update(pairs)
        self.variables.update(pairs)
        self._note(instruction, place, "ENV " + " ".join(f"{name}={value}" for name, value in pairs))

    def _ports(self, instruction: ins.Expose) -> list[str]:
        found: list[str] = []
        for word in instruction.ports:
            for text in expand_words(word, self.variables, self.around.escape):
                found.extend(expand_port(text))
        return found


def expand_port(text: str) -> list[str]:
    """The ports that ``[[address:]host-port:]port[-port][/protocol]`` exposes; what is before the port says nothing."""
    given, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    before, _, ports = given.rpartition(":")
    _check_host_part(before, text)
    first, dash, last = ports.partition("-")
    if not (first.isdecimal() and (not dash or last.isdecimal())) or protocol not in _PROTOCOLS:
        raise InvalidArgument(f"invalid containerPort: {text}", hint="write port[-port][/tcp|udp|sctp]")
    low, high = int(first), int(last or first)
    if not low <= high <= 65535:
        raise InvalidArgument(f"invalid containerPort: {text}", hint="ports are 0 to 65535")
    return [f"{port}/{protocol}" for port in range(low, high + 1)]


def _check_host_part(before: str, text: str) -> None:
    """``address:port`` or ``port`` of the host, each of which may be empty. Raises InvalidArgument."""
    address, _, port = before.rpartition(":")
    numbers = port.split("-") if port else []
    try:
        known = len(numbers) < 3 and all(0 <= int(number) <= 65535 for number in numbers)
        if address:
            ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        known = False
    if not known:
        raise InvalidArgument(f"invalid containerPort: {text}", hint="write port[-port][/tcp|udp|sctp]")


def healthcheck_of(instruction: ins.Healthcheck) -> Healthcheck:
    """The image configuration's form of ``HEALTHCHECK``."""
    command = instruction.command
    if command is None:
        return Healthcheck(test=["NONE"])
    kind = "CMD-SHELL" if command.shell else "CMD"
    return Healthcheck(
        test=[kind, *command.args],
        interval=instruction.interval,
        timeout=instruction.timeout,
        start_period=instruction.start_period,
        start_interval=instruction.start_interval,
        retries=instruction.retries,
    )
