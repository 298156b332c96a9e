"""One stage's instructions, one after the other: configuration, variables, steps, history."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

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
    """A stage while it is being read; grows instruction by instruction."""

    output: StageOutput
    around: Surroundings
    cmd_set: bool = False
    steps: list[Step] = field(default_factory=list)
    number: int = 0
    index: int = 0

    @property
    def config(self) -> ExecutionConfig:
        """The configuration so far."""
        return self.output.config

    @property
    def variables(self) -> Mapping[str, str]:
        """What words are expanded with and what RUN sees: of ARG and ENV the one that came last."""
        return self.output.variables

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

    def word(self, text: str) -> str:
        """``text`` expanded."""
        return expand(text, self.variables, self.around.escape)

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
        self.number += 1
        return f"{self.index}.{self.number}"

    def _layer(self, step: Step, created_by: str, *, by_builder: bool = True) -> None:
        named = {name: value for name, value in self.variables.items() if name in _VARIABLE.findall(step.text)}
        self.steps.append(replace(step, variables=named, arguments=frozenset(self.output.args)))
        text = f"{created_by} # buildkit" if by_builder else created_by
        written = Written(step=step.id, created_by=text, empty=False)
        self.output = replace(self.output, tip=step.id, history=(*self.output.history, written))

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
        config = msgspec.structs.replace(self.config, **changes)
        written = (Written(step=step.id, created_by=created_by, empty=True),) if created_by else ()
        self.output = replace(self.output, config=config, history=(*self.output.history, *written))

    def _arg(self, instruction: ins.Arg, place: Place) -> None:
        shown = []
        variables, args = dict(self.variables), dict(self.output.args)
        for name, default in instruction.args:
            value = None if default is None else expand(default, variables, self.around.escape)
            if name in self.around.build_args:
                value = self.around.build_args[name]
                self.around.consumed(name)
            elif default is None:
                value = self.around.global_args.get(name)
            args[name] = value
            if value is not None:
                variables[name] = value
            shown.append(name if value is None else f"{name}={value}")
        self.output = replace(self.output, variables=variables, args=args)
        self._note(instruction, place, f"ARG {' '.join(shown)}")

    def _workdir(self, instruction: ins.Workdir, place: Place) -> None:
        path = posixpath.normpath(posixpath.join(self.config.working_dir or "/", self.word(instruction.path)))
        path = "/" + path.lstrip("/")
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
        self.output = replace(self.output, config=msgspec.structs.replace(self.config, working_dir=path))
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
                self._env(instruction, place)
            case ins.Label():
                pairs = {self.word(name): self.word(value) for name, value in instruction.pairs}
                text = "LABEL " + " ".join(f"{name}={value}" for name, value in pairs.items())
                self._note(instruction, place, text, labels={**(config.labels or {}), **pairs})
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
                merged = {**(config.exposed_ports or {}), **{port: {} for port in ports}}
                self._note(instruction, place, f"EXPOSE [{' '.join(sorted(set(ports)))}]", exposed_ports=merged)
            case ins.Volume():
                paths = [self.word(path) for path in instruction.paths]
                if not all(paths):
                    raise InvalidArgument("VOLUME specified can not be an empty string")
                merged = {**(config.volumes or {}), **{path: {} for path in paths}}
                self._note(instruction, place, f"VOLUME [{' '.join(paths)}]", volumes=merged)
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
                check = _healthcheck(instruction)
                self._note(instruction, place, phrasing.healthcheck(check), healthcheck=check)
            case ins.Onbuild():
                triggers = [*(self.config.on_build or []), instruction.expression]
                self._note(instruction, place, "", on_build=triggers)
            case ins.Maintainer():
                self.output = replace(self.output, author=instruction.maintainer)
                self._note(instruction, place, f"MAINTAINER {instruction.maintainer}")
            case _:
                raise Unsupported(f"{type(instruction).__name__.upper()} is not supported here")

    def _env(self, instruction: ins.Env, place: Place) -> None:
        variables = self.variables
        pairs = [(self.word(name), expand(value, variables, self.around.escape)) for name, value in instruction.pairs]
        env = list(self.config.env or [])
        for name, value in pairs:
            positions = [i for i, item in enumerate(env) if item.partition("=")[0] == name]
            if positions:
                env[positions[0]] = f"{name}={value}"
            else:
                env.append(f"{name}={value}")
        self.output = replace(self.output, variables={**variables, **dict(pairs)})
        text = "ENV " + " ".join(f"{name}={value}" for name, value in pairs)
        self._note(instruction, place, text, env=env)

    def _ports(self, instruction: ins.Expose) -> list[str]:
        found: list[str] = []
        for word in instruction.ports:
            for text in expand_words(word, self.variables, self.around.escape):
                found.extend(_expand_port(text))
        return found


def _expand_port(text: str) -> list[str]:
    """The ports that ``[[address:]host-port:]port[-port][/protocol]`` exposes; what is before the port says nothing."""
    given, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    before, _, ports = given.rpartition(":")
    _check_host_part(before, text)
    first, dash, last = ports.partition("-")
    if not (first.isdecimal() and (not dash or last.isdecimal())) or protocol not in _PROTOCOLS:
        raise InvalidArgument(f"invalid containerPort: {text}", hint="write port[-port][/tcp|udp|sctp]")
    low, high = int(first), int(last or first)
    if not 0 < low <= high <= 65535:
        raise InvalidArgument(f"invalid containerPort: {text}", hint="ports are 1 to 65535")
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


def _healthcheck(instruction: ins.Healthcheck) -> Healthcheck:
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
