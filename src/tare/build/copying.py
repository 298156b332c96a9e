"""COPY and ADD instructions as steps."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from tare.build import phrasing
from tare.build.dockerfile import instructions as ins
from tare.build.dockerfile.expansion import expand_heredoc
from tare.build.graph import CONTEXT, CopyStep, Place
from tare.build.modes import parse_mode
from tare.errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from tare.build.interpreter import StageState

_GIT = ("git://", "git@", "ssh://")


def copy_step(instruction: ins.Copy | ins.Add, state: StageState, place: Place, step_id: str) -> tuple[CopyStep, str]:
    """The step and its history text. Raises InvalidArgument, Unsupported."""
    name = "COPY" if isinstance(instruction, ins.Copy) else "ADD"
    sources = tuple(state.word(source) for source in instruction.sources)
    destination = state.word(instruction.destination)
    if len(sources) + len(instruction.inline) > 1 and not destination.endswith("/") and destination != ".":
        raise InvalidArgument(
            f"when using {name} with more than one source file, the destination must be a directory and end with a /"
        )
    variables = state.variables
    inline = tuple(
        replace(item, content=expand_heredoc(item.content, variables), expand=False) if item.expand else item
        for item in instruction.inline
    )
    state.count(sum(len(item.content) for item in inline))
    chown, chmod = state.word(instruction.chown), state.word(instruction.chmod)
    step = CopyStep(
        id=step_id,
        stage=state.output.name,
        text=phrasing.one_line(instruction.original),
        place=place,
        parent=state.output.tip,
        sources=sources,
        destination=_destination(destination, state.config.working_dir or "/"),
        chown=chown,
        chmod=parse_mode(chmod) if chmod else None,
        exclude=tuple(state.word(item) for item in instruction.exclude),
        inline=inline,
    )
    flags = [f"--chown={chown}"] * bool(chown) + [f"--chmod={chmod}"] * bool(chmod)
    shown = [*flags, *sources, *(f"<<{item.name}" for item in inline), destination]
    message = f"{name} {' '.join(shown)}"
    if isinstance(instruction, ins.Copy):
        return _copy(instruction, step, state, place), message
    return _add(instruction, step), message


def _copy(instruction: ins.Copy, step: CopyStep, state: StageState, place: Place) -> CopyStep:
    step = replace(step, parents=instruction.parents)
    if not instruction.from_:
        return step
    return replace(step, origin=state.around.origin(instruction.from_, place), origin_name=instruction.from_)


def _add(instruction: ins.Add, step: CopyStep) -> CopyStep:
    local: list[str] = []
    remote: list[str] = []
    for source in step.sources:
        if source.startswith(_GIT) or (source.startswith(("http://", "https://")) and ".git" in source[-64:]):
            raise Unsupported(f"ADD {source}: git repositories are not supported yet", hint="clone it in a RUN step")
        (remote if source.startswith(("http://", "https://")) else local).append(source)
    if remote and instruction.unpack:
        raise Unsupported("ADD --unpack of a URL is not supported yet", hint="unpack it in a RUN step")
    if instruction.checksum and (local or not remote):
        raise InvalidArgument("checksum can't be specified for non-HTTP(S) sources")
    return replace(
        step,
        sources=tuple(local),
        downloads=tuple(remote),
        checksum=instruction.checksum,
        unpack=instruction.unpack is not False,
        origin=CONTEXT,
    )


def _destination(text: str, working_dir: str) -> str:
    """Absolute; ends in a slash where a directory is meant."""
    path = posixpath.normpath(posixpath.join(working_dir, text))
    path = "/" + path.lstrip("/")
    last = text.rpartition("/")[2]
    return path.rstrip("/") + "/" if last in ("", ".", "..") else path
