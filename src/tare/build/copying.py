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
from tare.build.sources.addresses import is_http, parse_git, redact, with_checksum
from tare.build.sources.http import check_digest
from tare.errors import InvalidArgument

if TYPE_CHECKING:
    from tare.build.interpreter import StageState


def copy_step(instruction: ins.Copy | ins.Add, state: StageState, place: Place, step_id: str) -> tuple[CopyStep, str]:
    """The step and its history text. Raises InvalidArgument."""
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
    shown = [*flags, *map(redact, sources), *(f"<<{item.name}" for item in inline), destination]
    message = f"{name} {' '.join(shown)}"
    if isinstance(instruction, ins.Copy):
        return _copy(instruction, step, state, place), message
    return _add(instruction, step), message


def _copy(instruction: ins.Copy, step: CopyStep, state: StageState, place: Place) -> CopyStep:
    _refuse_remote(step.sources)
    step = replace(step, parents=instruction.parents)
    if not instruction.from_:
        return step
    return replace(step, origin=state.around.origin(instruction.from_, place), origin_name=instruction.from_)


def _add(instruction: ins.Add, step: CopyStep) -> CopyStep:
    remote = tuple(source for source in step.sources if _is_remote(source))
    local = tuple(source for source in step.sources if source not in remote)
    _check_checksum(instruction.checksum, step, remote)
    for source in remote:
        said = git.keep_git_dir if (git := parse_git(source)) else None
        if None not in (said, instruction.keep_git_dir) and said != instruction.keep_git_dir:
            raise InvalidArgument("inconsistent keep-git-dir configuration", hint="say it once: in the flag or the URL")
    return replace(
        step,
        text=redact(step.text),
        sources=local,
        downloads=remote,
        checksum=instruction.checksum,
        unpack=instruction.unpack is not False,
        unpack_downloads=bool(remote) and instruction.unpack is True,
        keep_git_dir=bool(instruction.keep_git_dir),
        origin=CONTEXT,
    )


def _check_checksum(checksum: str, step: CopyStep, remote: tuple[str, ...]) -> None:
    if not checksum:
        return
    if len(step.sources) + len(step.inline) != 1:
        raise InvalidArgument("checksum can't be specified for multiple sources", hint="write one ADD for each")
    if not remote:
        raise InvalidArgument("checksum requires HTTP(S) or Git sources", hint="remove --checksum for a local file")
    git = parse_git(remote[0])
    if git is None:
        check_digest(checksum)
    else:
        with_checksum(git, checksum)


def _is_remote(source: str) -> bool:
    return is_http(source) or parse_git(source) is not None


def _refuse_remote(sources: tuple[str, ...]) -> None:
    for source in sources:
        if _is_remote(source):
            what = "a git ref" if parse_git(source) is not None else "a URL"
            raise InvalidArgument(
                f"source can't be {what} for COPY", hint="use ADD, or ./ before the name of a local file"
            )


def _destination(text: str, working_dir: str) -> str:
    """Absolute; ends in a slash where a directory is meant."""
    path = posixpath.normpath(posixpath.join(working_dir, text))
    path = "/" + path.lstrip("/")
    last = text.rpartition("/")[2]
    return path.rstrip("/") + "/" if last in ("", ".", "..") else path
