"""Checks on the instructions of a stage, one after the other, with the variables that are known there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tare.build.checks import rules
from tare.build.checks.findings import Finding
from tare.build.checks.ignored import is_ignored
from tare.build.checks.nearest import Suggestions
from tare.build.checks.rules import Rule
from tare.build.defaults import PATH
from tare.build.dockerfile import instructions as ins
from tare.build.dockerfile.dockerignore import IgnoreRules
from tare.build.dockerfile.expansion import ExpansionRules, expand_result
from tare.build.dockerfile.source import Source
from tare.build.dockerfile.stages import parse_trigger
from tare.build.dockerfile.words import quoted_words, split_once
from tare.errors import InvalidArgument, TareError
from tare.oci.image import ExecutionConfig

# The whole name, its first or its last word (BuildKit, ``validations.go``).
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_HARMLESS = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_NOT_IN_ENVIRONMENT = ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")
_HEREDOC = ExpansionRules(plain_quotes=True)


@dataclass(slots=True)
class Scope:
    """What is known at a place in a stage.

    ``env`` are variables with values, ``declared`` ARGs also without; ``triggers`` wait for a stage on top.
    ``complete`` is false where the base image is not here: variables may then exist that nobody knows of.
    """

    env: dict[str, str]
    declared: set[str] = field(default_factory=set)
    shell: bool = False
    workdir: bool = False
    complete: bool = True
    triggers: list[str] = field(default_factory=list)

    @classmethod
    def of_image(cls, config: ExecutionConfig | None) -> Scope:
        """The scope on top of an image: ``config`` is None where the image is not here."""
        if config is None:
            return cls(dict([PATH.split("=", 1)]), complete=False)
        env = dict(item.partition("=")[::2] for item in [PATH, *(config.env or [])])
        return cls(env, shell=bool(config.shell), triggers=list(config.on_build or []))

    def child(self) -> Scope:
        """The scope of a stage on top of this one; ARGs carry over, as in BuildKit."""
        return Scope(dict(self.env), set(self.declared), self.shell, self.workdir, self.complete, list(self.triggers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all stages of a build share; ``ignored`` are the context's ignore rules, None where it has none."""

    source: Source
    escape: str
    global_args: Mapping[str, str]
    build_args: Mapping[str, str]
    ignored: IgnoreRules | None = None
    suggestions: Suggestions = field(default_factory=Suggestions)


class BodyCheck:
    """Walks through one stage; ``scope`` changes on the way."""

    def __init__(self, scope: Scope, around: Surroundings) -> None:
        self.scope = scope
        self._around = around
        self._rules = ExpansionRules(escape=around.escape)
        self._last: dict[str, ins.Instruction] = {}

    def prepare(self, image: str, base: ins.From) -> Iterator[Finding]:
        """Findings in the triggers of ``image``, which the stage's FROM runs; they are told as of that line."""
        triggers, self.scope.triggers = self.scope.triggers, []
        for text in triggers:
            try:
                instruction = parse_trigger(text, image)
            except TareError:
                continue  # building says why
            yield from self.check(replace(instruction, range=base.range))

    def check(self, instruction: ins.AnyInstruction) -> Iterator[Finding]:
        """Findings in the next instruction."""
        match instruction:
            case ins.Arg():
                yield from self._arg(instruction)
            case ins.Env() | ins.Label():
                yield from self._pairs(instruction)
            case ins.Copy() | ins.Add():
                yield from self._undefined(instruction, _copy_words(instruction))
                for item in instruction.inline:
                    if item.expand:
                        yield from self._undefined(instruction, [item.content], _HEREDOC)
                yield from self._ignored(instruction)
            case ins.Run():
                yield from self._undefined(instruction, [mount.raw for mount in instruction.mounts])
            case ins.Workdir():
                yield from self._undefined(instruction, [instruction.path])
                yield from self._workdir(instruction)
            case ins.User():
                yield from self._undefined(instruction, [instruction.user])
            case ins.StopSignal():
                yield from self._undefined(instruction, [instruction.signal])
            case ins.Volume():
                yield from self._undefined(instruction, list(instruction.paths))
            case ins.Expose():
                yield from self._expose(instruction)
            case ins.Cmd() | ins.Entrypoint() | ins.Healthcheck():
                yield from self._command(instruction)
            case ins.Shell():
                self.scope.shell = True
            case ins.Onbuild():
                self.scope.triggers.append(instruction.expression)
            case _:
                pass

    def _find(self, rule: Rule, instruction: ins.Instruction, **values: str) -> Finding:
        return Finding.make(rule, self._around.source, instruction.range, **values)

    def _undefined(
        self, instruction: ins.Instruction, words: list[str], rules_: ExpansionRules | None = None
    ) -> Iterator[Finding]:
        if not self.scope.complete:
            return
        names: set[str] = set()
        for word in words:
            if "$" not in word:
                continue
            try:
                names |= expand_result(word, self.scope.env, rules_ or self._rules).undefined
            except InvalidArgument:
                continue  # building says why
        for name in sorted(names - self.scope.declared - set(_NOT_IN_ENVIRONMENT)):
            near = self._around.suggestions.nearest(name, self.scope.env)
            suggestion = f" (did you mean ${near}?)" if near else ""
            yield self._find(rules.UNDEFINED_VAR, instruction, name=name, suggestion=suggestion)

    def _expand(self, word: str) -> str:
        try:
            return expand_result(word, self.scope.env, self._rules).text
        except InvalidArgument:
            return word

    def _arg(self, instruction: ins.Arg) -> Iterator[Finding]:
        for name, default in instruction.args:
            yield from self._secret(instruction, "ARG", name)
            value = self._around.build_args.get(name)
            if value is None and default is not None:
                yield from self._undefined(instruction, [default])
                value = self._expand(default)
            elif value is None:
                value = self._around.global_args.get(name)
            if value is not None and name not in _NOT_IN_ENVIRONMENT:
                self.scope.env[name] = value
            self.scope.declared.add(name)

    def _pairs(self, instruction: ins.Env | ins.Label) -> Iterator[Finding]:
        written, rest = split_once(instruction.original.strip())
        words = quoted_words(rest, self._around.escape)
        yield from self._undefined(instruction, [text for pair in instruction.pairs for text in pair])
        if words and "=" not in words[0]:
            yield self._find(rules.LEGACY_KEY_VALUE_FORMAT, instruction, name=written)
        if not isinstance(instruction, ins.Env):
            return
        values = [(name, self._expand(value)) for name, value in instruction.pairs]
        for name, value in values:
            yield from self._secret(instruction, "ENV", name)
            self.scope.env[name] = value

    def _secret(self, instruction: ins.Instruction, kind: str, name: str) -> Iterator[Finding]:
        if _SECRET.search(name) and not _HARMLESS.search(name):
            yield self._find(rules.SECRETS_USED_IN_ARG_OR_ENV, instruction, kind=kind, name=name)

    def _workdir(self, instruction: ins.Workdir) -> Iterator[Finding]:
        path = self._expand(instruction.path)
        if not self.scope.workdir and not path.startswith("/"):
            shown = json.dumps(path, ensure_ascii=False)
            yield self._find(rules.WORKDIR_RELATIVE_PATH, instruction, path=shown)
        self.scope.workdir = True  # a relative one is right as soon as the first one is

    def _command(self, instruction: ins.Cmd | ins.Entrypoint | ins.Healthcheck) -> Iterator[Finding]:
        written = split_once(instruction.original.strip())[0]
        previous = self._last.get(type(instruction).__name__)
        if previous is not None:
            # The earlier one is told, as it is the one without effect.
            yield self._find(rules.MULTIPLE_INSTRUCTIONS_DISALLOWED, previous, name=written)
        self._last[type(instruction).__name__] = instruction
        if isinstance(instruction, ins.Healthcheck):
            return
        if instruction.command.shell and not self.scope.shell:
            yield self._find(rules.JSON_ARGS_RECOMMENDED, instruction, name=written)

    def _expose(self, instruction: ins.Expose) -> Iterator[Finding]:
        for word in instruction.ports:
            try:
                ports = expand_result(word, self.scope.env, self._rules).words
            except InvalidArgument:
                continue
            for port in ports:
                protocol = port.rpartition(":")[2].partition("/")[2]
                if protocol != protocol.lower():
                    yield self._find(rules.EXPOSE_PROTO_CASING, instruction, port=port)
                if port.rpartition(":")[0].strip(":"):
                    yield self._find(rules.EXPOSE_INVALID_FORMAT, instruction, port=port)

    def _ignored(self, instruction: ins.Copy | ins.Add) -> Iterator[Finding]:
        if self._around.ignored is None or (isinstance(instruction, ins.Copy) and instruction.from_):
            return
        command = "Copy" if isinstance(instruction, ins.Copy) else "Add"
        for source in instruction.sources:
            path = self._expand(source)
            found = is_ignored(path, self._around.ignored)
            if found:
                shown = json.dumps(found, ensure_ascii=False)
                yield self._find(rules.COPY_IGNORED_FILE, instruction, command=command, path=shown)


def _copy_words(instruction: ins.Copy | ins.Add) -> list[str]:
    words = [*instruction.sources, instruction.destination, instruction.chown, instruction.chmod, *instruction.exclude]
    if isinstance(instruction, ins.Add):
        words.append(instruction.checksum)
    return words
