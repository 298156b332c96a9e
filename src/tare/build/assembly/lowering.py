"""A declarative file as a stage of a build: the packages are its base, files and settings its instructions.

What it means for keys, cache, explanations and outputs is then the builder's as for a Dockerfile. Texts stand for
themselves: no variables are expanded in them. Instructions keep the lines of the field that they come from.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tare.build.assembly.document import Document, DocumentFile, FileEntry, duration_of
from tare.build.dockerfile import instructions as ins
from tare.build.dockerfile.parser import Directives
from tare.build.dockerfile.source import SourceRange
from tare.build.dockerfile.stages import Dockerfile, Stage

_SPECIAL = frozenset("\\$'\" \t\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A stage that stands for a declarative file.

    ``base`` is what its FROM names, ``stages`` are the stages of its Dockerfile that it copies from, by what
    ``COPY --from`` names. None of these names can be an image's.
    """

    dockerfile: Dockerfile
    base: str
    stages: Mapping[str, str]

    def owns(self, name: str) -> bool:
        """Whether ``name`` is one of the names that only this file knows."""
        return name == self.base or name in self.stages


def lower(read: DocumentFile, label: str, *, stages: Mapping[str, str]) -> Lowered:
    """The stage, called ``label``; ``stages`` are those of its Dockerfile by name and number. Raises DocumentError."""
    lowering = _Lowering(read, label, stages)
    instructions = tuple(lowering.instructions())
    base = ins.From(range=lowering.lines("packages", "base"), original=lowering.title(), image=lowering.base)
    stage = Stage(label, 0, base, instructions)
    source = read.source
    return Lowered(
        dockerfile=Dockerfile(source.name, source, Directives(), (), (stage,)),
        base=lowering.base,
        stages=lowering.used,
    )


class _Lowering:
    def __init__(self, read: DocumentFile, label: str, stages: Mapping[str, str]) -> None:
        self._read = read
        self._document: Document = read.document
        self._stages = stages
        self.base = f"packages of {label}"
        self.used: dict[str, str] = {}

    def lines(self, *keys: str) -> SourceRange:
        """Where the first of ``keys`` stands that is in the file; its first line if none is."""
        data = self._read.file.data
        return next((self._read.file.range(key) for key in keys if key in data), SourceRange(1, 1))

    def title(self) -> str:
        """What the base is called in progress and history."""
        names = [f"{wish.name}={wish.version}" if wish.version else wish.name for wish in self._document.wishes()]
        return f"ASSEMBLE {' '.join([self._document.base, *names])}"

    def instructions(self) -> Iterator[ins.AnyInstruction]:
        """The instructions in an order in which a change of a setting rebuilds no file."""
        document = self._document
        yield ins.User(range=self.lines("user"), original=f"USER {document.user}", user=quote(document.user))
        for index, path in enumerate(document.volumes):
            where = self._read.file.range("volumes", index)
            yield ins.Workdir(range=where, original=f"MKDIR {path}", path=quote(path))
        for index, item in enumerate(document.files):
            yield self._copy(item, index)
        yield ins.Workdir(
            range=self.lines("workdir"), original=f"WORKDIR {document.workdir}", path=quote(document.workdir)
        )
        yield from self._settings()

    def _settings(self) -> Iterator[ins.AnyInstruction]:
        document = self._document
        for name, value in document.env.items():
            where = self._read.file.range("env", name)
            yield ins.Env(range=where, original=f"ENV {name}={value}", pairs=((quote(name), quote(value)),))
        for name, value in document.labels.items():
            where = self._read.file.range("labels", name)
            yield ins.Label(range=where, original=f"LABEL {name}={value}", pairs=((quote(name), quote(value)),))
        for index, port in enumerate(document.ports):
            where = self._read.file.range("ports", index)
            yield ins.Expose(range=where, original=f"EXPOSE {port}", ports=(quote(port),))
        for index, path in enumerate(document.volumes):
            where = self._read.file.range("volumes", index)
            yield ins.Volume(range=where, original=f"VOLUME {path}", paths=(quote(path),))
        if signal := document.stop_signal:
            yield ins.StopSignal(range=self.lines("stop-signal"), original=f"STOPSIGNAL {signal}", signal=quote(signal))
        yield from self._commands()

    def _commands(self) -> Iterator[ins.AnyInstruction]:
        document = self._document
        if check := document.healthcheck:
            file = self._read.file
            yield ins.Healthcheck(
                range=self.lines("healthcheck"),
                original=f"HEALTHCHECK {' '.join(check.test)}",
                command=_command(check.test),
                interval=duration_of(file, "interval", check.interval),
                timeout=duration_of(file, "timeout", check.timeout),
                start_period=duration_of(file, "start-period", check.start_period),
                start_interval=duration_of(file, "start-interval", check.start_interval),
                retries=check.retries,
            )
        if (argv := document.entrypoint) is not None:
            original = f"ENTRYPOINT {' '.join(argv)}"
            yield ins.Entrypoint(range=self.lines("entrypoint"), original=original, command=_command(argv))
        if (argv := document.cmd) is not None:
            yield ins.Cmd(range=self.lines("cmd"), original=f"CMD {' '.join(argv)}", command=_command(argv))

    def _copy(self, item: FileEntry, index: int) -> ins.Copy:
        sources = [item.source] if isinstance(item.source, str) else item.source
        inline: tuple[ins.InlineFile, ...] = ()
        if item.content is not None:
            inline = (ins.InlineFile(posixpath.basename(item.target), item.content, False),)
        flags = {"from": item.from_, "chown": item.owner, "chmod": item.mode}
        shown = [f"--{name}={value}" for name, value in flags.items() if value]
        words = [*shown, *sources, *(f"<<{file.name}" for file in inline), item.target]
        return ins.Copy(
            range=self._read.file.range("files", index),
            original=f"COPY {' '.join(words)}",
            sources=tuple(quote(source) for source in sources),
            destination=quote(item.target),
            from_=self._origin(item, index) if item.content is None else "",
            chown=quote(item.owner),
            chmod=quote(item.mode),
            exclude=tuple(quote(pattern) for pattern in item.exclude),
            inline=inline,
        )

    def _origin(self, item: FileEntry, index: int) -> str:
        """What ``COPY --from`` names."""
        name = item.from_
        if not name:
            return ""
        if (stage := self._stages.get(name.lower())) is not None:
            key = f"{name.lower()} of {self._document.dockerfile}"
            self.used[key] = stage
            return key
        if name.isdecimal():
            there = f"{self._document.dockerfile} has no such stage" if self._stages else "there is no dockerfile"
            raise self._read.file.error(f"from {name}: {there}", "files", index, "from")
        return name


def _command(argv: list[str]) -> ins.Command:
    return ins.Command(tuple(argv), False)


def quote(text: str) -> str:
    """``text`` such that expanding it gives it back."""
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in text)
