"""From nodes to typed instructions: arguments counted, flags known, forms recognised."""

from __future__ import annotations

import re
from collections.abc import Callable

from tare.build.dockerfile.errors import DockerfileError, Misuse
from tare.build.dockerfile.flags import FlagKind, Flags
from tare.build.dockerfile.heredoc import parse_marker
from tare.build.dockerfile.instructions import (
    Add,
    AnyInstruction,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    InlineFile,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from tare.build.dockerfile.mounts import parse_mount
from tare.build.dockerfile.parser import Node, parse_line
from tare.build.dockerfile.source import Source
from tare.build.dockerfile.values import parse_duration, suggestion
from tare.build.dockerfile.words import json_strings, quoted_words, split_blanks, split_once
from tare.errors import InvalidArgument

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_NETWORKS = ("default", "none", "host")
_SECURITY = ("sandbox", "insecure")
_MINIMUM_DURATION = 1_000_000
_COPY_FLAGS = {
    "from": FlagKind.TEXT,
    "chown": FlagKind.TEXT,
    "chmod": FlagKind.TEXT,
    "link": FlagKind.BOOLEAN,
    "parents": FlagKind.BOOLEAN,
    "exclude": FlagKind.TEXTS,
}
_ADD_FLAGS = {
    "chown": FlagKind.TEXT,
    "chmod": FlagKind.TEXT,
    "link": FlagKind.BOOLEAN,
    "exclude": FlagKind.TEXTS,
    "checksum": FlagKind.TEXT,
    "keep-git-dir": FlagKind.BOOLEAN,
    "unpack": FlagKind.BOOLEAN,
}
_RUN_FLAGS = {
    "mount": FlagKind.TEXTS,
    "network": FlagKind.TEXT,
    "security": FlagKind.TEXT,
    "device": FlagKind.TEXTS,
}
_HEALTH_DURATIONS = ("interval", "timeout", "start-period", "start-interval")
_HEALTH_FLAGS = dict.fromkeys((*_HEALTH_DURATIONS, "retries"), FlagKind.TEXT)


def to_instruction(node: Node, source: Source, escape: str) -> AnyInstruction:
    """The typed instruction of ``node``; raises DockerfileError."""
    reader = _READERS.get(node.name)
    if reader is None:
        near = suggestion(node.written, _READERS)
        raise source.error(f"unknown instruction: {node.written}{near}", node.range, mark=node.written)
    try:
        return reader(node, escape)
    except DockerfileError:
        raise
    except InvalidArgument as error:
        mark = error.mark if isinstance(error, Misuse) else ""
        raise source.error(error.message, node.range, mark=mark, hint=error.hint) from error


def _flags(node: Node, known: dict[str, FlagKind] | None = None) -> Flags:
    return Flags(node.flags, known or {})


def _one(node: Node) -> str:
    """The whole text as the only argument."""
    _flags(node)
    if not node.rest:
        raise Misuse(f"{node.name} requires exactly one argument")
    return node.rest


def _some(node: Node) -> str:
    if not node.rest:
        raise Misuse(f"{node.name} requires at least one argument")
    return node.rest


def _command(node: Node, text: str) -> Command:
    """Exec form where the text is a JSON array of strings, else shell form."""
    args = json_strings(text)
    if args is not None:
        return Command(tuple(args), False, node.heredocs)
    return Command((text,), True, node.heredocs)


def _from(node: Node, _escape: str) -> From:
    flags = _flags(node, {"platform": FlagKind.TEXT})
    words = split_blanks(node.rest)
    alias = ""
    if len(words) == 3 and words[1].lower() == "as":
        alias = words[2].lower()
        if not _STAGE_NAME.fullmatch(alias):
            raise Misuse(
                f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols',
                mark=words[2],
            )
    elif len(words) != 1:
        hint = "write FROM image or FROM image AS name"
        raise Misuse("FROM requires either one or three arguments", mark=node.rest, hint=hint)
    return From(range=node.range, original=node.original, image=words[0], alias=alias, platform=flags.text("platform"))


def _arg(node: Node, escape: str) -> Arg:
    _flags(node)
    args: list[tuple[str, str | None]] = []
    for word in quoted_words(_some(node), escape):
        name, equals, default = word.partition("=")
        if not name:
            raise Misuse("ARG names can not be blank", mark=word)
        args.append((name, default if equals else None))
    return Arg(range=node.range, original=node.original, args=tuple(args))


def _pairs(node: Node, escape: str) -> tuple[tuple[str, str], ...]:
    """``name=value …``, or the old form ``name value`` where the first word has no equals sign."""
    _flags(node)
    words = quoted_words(_some(node), escape)
    if words and "=" not in words[0]:
        name, value = split_once(node.rest)
        if not value:
            raise Misuse(f"{node.name} must have two arguments", mark=name, hint=f"write {node.name} name=value")
        return ((name, value),)
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            cause = f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value'
            raise Misuse(cause, mark=word, hint="quote values that contain blanks")
        if not name:
            raise Misuse(f"{node.name} names can not be blank", mark=word)
        pairs.append((name, value))
    if not pairs:
        raise Misuse(f"{node.name} requires at least one argument")
    return tuple(pairs)


def _env(node: Node, escape: str) -> Env:
    return Env(range=node.range, original=node.original, pairs=_pairs(node, escape))


def _label(node: Node, escape: str) -> Label:
    return Label(range=node.range, original=node.original, pairs=_pairs(node, escape))


def _run(node: Node, _escape: str) -> Run:
    flags = _flags(node, _RUN_FLAGS)
    command = _command(node, _some(node))
    network, security = flags.text("network", "default"), flags.text("security", "sandbox")
    for name, value, known in (("network", network, _NETWORKS), ("security", security, _SECURITY)):
        if value not in known:
            cause = f'invalid {name} mode "{value}"{suggestion(value, known)}'
            raise Misuse(cause, mark=f"--{name}", hint=f"use {', '.join(known)}")
    return Run(
        range=node.range,
        original=node.original,
        command=command,
        mounts=tuple(parse_mount(text) for text in flags.texts("mount")),
        network=network,
        security=security,
        devices=flags.texts("device"),
    )


def _sources(node: Node) -> tuple[tuple[str, ...], str, tuple[InlineFile, ...]]:
    """Sources, destination and heredoc sources of COPY and ADD."""
    words = json_strings(node.rest)
    if words is None:
        words = split_blanks(node.rest)
    if len(words) < 2:
        given = "only one was" if words else "none were"
        raise Misuse(
            f"{node.name} requires at least two arguments, but {given} provided. Destination could not be determined",
            hint=f"write {node.name} source … destination",
        )
    *candidates, destination = words
    texts = {heredoc.name: heredoc for heredoc in node.heredocs}
    marker = parse_marker(destination)
    if marker is not None and marker.name in texts:
        raise Misuse(f"{node.name} cannot accept a heredoc as a destination", mark=destination)
    sources: list[str] = []
    inline: list[InlineFile] = []
    for word in candidates:
        marker = parse_marker(word)
        if marker is None or marker.name not in texts:
            sources.append(word)
        else:
            heredoc = texts[marker.name]
            inline.append(InlineFile(heredoc.name, heredoc.content, heredoc.expand))
    return tuple(sources), destination, tuple(inline)


def _copy(node: Node, _escape: str) -> Copy:
    sources, destination, inline = _sources(node)
    flags = _flags(node, _COPY_FLAGS)
    origin = flags.text("from")
    if re.search(r"\$.", origin):
        raise Misuse(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope"
            " as a workaround",
            mark="--from",
        )
    return Copy(
        range=node.range,
        original=node.original,
        sources=sources,
        destination=destination,
        from_=origin,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.boolean("link") or False,
        parents=flags.boolean("parents") or False,
        exclude=flags.texts("exclude"),
        inline=inline,
    )


def _add(node: Node, _escape: str) -> Add:
    sources, destination, inline = _sources(node)
    flags = _flags(node, _ADD_FLAGS)
    return Add(
        range=node.range,
        original=node.original,
        sources=sources,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.boolean("link") or False,
        exclude=flags.texts("exclude"),
        inline=inline,
        checksum=flags.text("checksum"),
        keep_git_dir=flags.boolean("keep-git-dir"),
        unpack=flags.boolean("unpack"),
    )


def _cmd(node: Node, _escape: str) -> Cmd:
    _flags(node)
    return Cmd(range=node.range, original=node.original, command=_command(node, node.rest))


def _entrypoint(node: Node, _escape: str) -> Entrypoint:
    _flags(node)
    return Entrypoint(range=node.range, original=node.original, command=_command(node, node.rest))


def _expose(node: Node, _escape: str) -> Expose:
    _flags(node)
    return Expose(range=node.range, original=node.original, ports=tuple(split_blanks(_some(node))))


def _volume(node: Node, _escape: str) -> Volume:
    _flags(node)
    paths = json_strings(_some(node))
    if paths is None:
        paths = split_blanks(node.rest)
    if not paths:
        raise Misuse("VOLUME requires at least one argument")
    if not all(path.strip() for path in paths):
        raise Misuse("VOLUME specified can not be an empty string", mark=node.rest)
    return Volume(range=node.range, original=node.original, paths=tuple(paths))


def _user(node: Node, _escape: str) -> User:
    return User(range=node.range, original=node.original, user=_one(node))


def _workdir(node: Node, _escape: str) -> Workdir:
    return Workdir(range=node.range, original=node.original, path=_one(node))


def _stop_signal(node: Node, _escape: str) -> StopSignal:
    return StopSignal(range=node.range, original=node.original, signal=_one(node))


def _maintainer(node: Node, _escape: str) -> Maintainer:
    return Maintainer(range=node.range, original=node.original, maintainer=_one(node))


def _shell(node: Node, _escape: str) -> Shell:
    _flags(node)
    args = json_strings(_some(node))
    if args is None:
        hint = 'write SHELL ["executable", "parameter"]'
        raise Misuse("SHELL requires the arguments to be in JSON form", mark=node.rest, hint=hint)
    if not args:
        raise Misuse("SHELL requires at least one argument", mark=node.rest)
    return Shell(range=node.range, original=node.original, shell=tuple(args))


def _healthcheck(node: Node, _escape: str) -> Healthcheck:
    kind, rest = split_once(_some(node))
    flags = _flags(node, _HEALTH_FLAGS)
    if kind.upper() == "NONE":
        if rest:
            raise Misuse("HEALTHCHECK NONE takes no arguments", mark=rest)
        return Healthcheck(range=node.range, original=node.original, command=None)
    if kind.upper() != "CMD":
        raise Misuse(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)', mark=kind)
    command = _command(node, rest)
    if not any(command.args):
        raise Misuse("Missing command after HEALTHCHECK CMD", mark=kind)
    interval, timeout, start_period, start_interval = (_health_duration(flags, name) for name in _HEALTH_DURATIONS)
    return Healthcheck(
        range=node.range,
        original=node.original,
        command=command,
        interval=interval,
        timeout=timeout,
        start_period=start_period,
        start_interval=start_interval,
        retries=_retries(flags.text("retries")),
    )


def _health_duration(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    try:
        duration = parse_duration(text)
    except InvalidArgument as error:
        raise Misuse(error.message, mark=text, hint=error.hint) from error
    if duration and duration < _MINIMUM_DURATION:
        raise Misuse(f'Interval "{name}" cannot be less than 1ms', mark=text)
    return duration


def _retries(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", text, re.ASCII) or abs(int(text)) >= 2**31:
        raise Misuse(f'invalid number of retries "{text}"', mark=text, hint="write a whole number")
    if int(text) < 0:
        raise Misuse(f"--retries cannot be negative ({text})", mark=text)
    return int(text)


def _onbuild(node: Node, escape: str) -> Onbuild:
    text = _some(node)
    _flags(node)
    inner = parse_line(text, node.heredocs, node.range)
    if inner.name == "ONBUILD":
        raise Misuse("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", mark=inner.written)
    if inner.name in ("MAINTAINER", "FROM"):
        raise Misuse(f"{inner.name} isn't allowed as an ONBUILD trigger", mark=inner.written)
    reader = _READERS.get(inner.name)
    if reader is None:
        raise Misuse(f"unknown instruction: {inner.written}{suggestion(inner.written, _READERS)}", mark=inner.written)
    reader(inner, escape)
    expression = text + "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in node.heredocs)
    return Onbuild(range=node.range, original=node.original, expression=expression)


_READERS: dict[str, Callable[[Node, str], AnyInstruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
