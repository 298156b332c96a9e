"""``cp``."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import posixpath
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from tare.cli import copy_paths
from tare.cli.copy_paths import GO_CHARACTER, GO_DEVICE, GO_DIRECTORY, GO_LINK, Place
from tare.cli.session import Session, pass_session
from tare.cli.units import human_size
from tare.errors import InvalidArgument, TareError

if TYPE_CHECKING:
    from tare.client.client import Client

_CHUNK = 1 << 20
_IRREGULAR = 1 << 19 | 1 << 24 | 1 << 25  # Go's ModeIrregular, ModeSocket, ModeNamedPipe


@click.command("cp", short_help="Copy files between a container and this host.")
@click.argument("source")
@click.argument("destination")
@click.option("-a", "--archive", "keep_owner", is_flag=True, help="Give what is copied in to the container's user.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Follow a symbolic link in the source path.")
@click.option("-q", "--quiet", is_flag=True, help="Don't say what was copied.")
@pass_session
def copy_files(session: Session, *, source: str, destination: str, keep_owner: bool, follow: bool, quiet: bool) -> None:
    """Copy SOURCE to DESTINATION; one of them is CONTAINER:PATH. "-" is a tar on standard input or output."""
    if not source:
        raise InvalidArgument("source can not be empty")
    if not destination:
        raise InvalidArgument("destination can not be empty")
    from_container, source = copy_paths.split_argument(source)
    to_container, destination = copy_paths.split_argument(destination)
    if from_container and to_container:
        raise InvalidArgument("copying between containers is not supported")
    if from_container:
        copied = session.run_on_loop(
            lambda client: _copy_out(client, from_container, source, destination, follow=follow)
        )
        shown = destination
    elif to_container:
        copied = session.run_on_loop(
            lambda client: _copy_in(client, source, to_container, destination, follow=follow, keep_owner=keep_owner)
        )
        shown = f"{to_container}:{destination}"
    else:
        raise InvalidArgument("must specify at least one container source")
    if not quiet and "-" not in (source, destination) and sys.stdout.isatty():
        print(f"Successfully copied {human_size(copied)} to {shown}", file=sys.stderr)


async def _copy_out(client: Client, container: str, source: str, destination: str, *, follow: bool) -> int:
    if destination != "-":
        destination = copy_paths.absolute(destination)
        copy_paths.check_output(destination)
    rename = ""
    if follow and (found := await client.containers.stat_path(container, source)) and found["mode"] & GO_LINK:
        target = posixpath.join(copy_paths.split_entry(source)[0], found["linkTarget"])
        source, rename = copy_paths.rebase(source, target)
    found, response = await client.containers.copy_from(container, source)
    async with response:
        if destination == "-":
            return await _pour(response.chunks(), sys.stdout.buffer)
        place = Place(path=source, is_directory=bool(found["mode"] & GO_DIRECTORY), rename=rename)
        directory, name = copy_paths.target_of(place, copy_paths.local_destination(destination))
        base = copy_paths.split_entry(posixpath.join("/", source))[1]
        reader = _Chunks(response.chunks())
        await asyncio.to_thread(_unpack, reader, directory, base, name or rename)
        return reader.size


async def _pour(chunks: AsyncIterator[bytes], sink: BinaryIO) -> int:
    size = 0
    async for chunk in chunks:
        await asyncio.to_thread(sink.write, chunk)
        size += len(chunk)
    sink.flush()
    return size


def _unpack(reader: _Chunks, directory: str, base: str, name: str) -> None:
    from tare.cli.copy_tar import unpack

    def renamed(path: str) -> str:
        if not name:
            return path
        if base == "/":
            return f"{name}/{path.lstrip('/')}"
        return name + path.removeprefix(base) if path == base or path.startswith(f"{base}/") else path

    try:
        unpack(cast(BinaryIO, reader), directory, renamed)
    except OSError as error:
        raise InvalidArgument(f"{error.filename or directory}: {error.strerror}") from error


class _Chunks:
    """The pieces of an answer as a blocking reader for another thread."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; empty at the end."""
        if not self._rest:
            self._rest = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            self.size += len(self._rest)
        data, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return data

    async def _next(self) -> bytes:
        return await anext(self._chunks, b"")


async def _copy_in(
    client: Client, source: str, container: str, destination: str, *, follow: bool, keep_owner: bool
) -> int:
    if source != "-":
        source = copy_paths.absolute(source)
    place = await _destination(client, container, destination)
    if source == "-":
        if not place.is_directory:
            raise InvalidArgument(f'destination "{container}:{destination}" must be a directory')
        body = _Body(_copy_stdin)
        directory = place.path
    else:
        origin = copy_paths.local_source(source, follow=follow)
        directory, name = copy_paths.target_of(origin, place)
        name = name or origin.rename or copy_paths.split_entry(origin.path)[1]
        body = _Body(lambda sink: _pack(origin.path, name, sink))
    await body.send(lambda chunks: client.containers.copy_to(container, directory, chunks, keep_owner=keep_owner))
    return body.size


async def _destination(client: Client, container: str, path: str) -> Place:
    place = Place(path=path, exists=False)
    found = await client.containers.stat_path(container, path)
    if found and found["mode"] & GO_LINK:
        place = replace(place, path=posixpath.join(copy_paths.split_entry(path)[0], found["linkTarget"]))
        found = await client.containers.stat_path(container, place.path)
    if not found:
        return place
    kind = "a device" if found["mode"] & (GO_DEVICE | GO_CHARACTER) else "an irregular file"
    if found["mode"] & (GO_DEVICE | GO_CHARACTER | _IRREGULAR):
        raise InvalidArgument(f'destination "{container}:{path}" must be a directory or a regular file: got {kind}')
    return replace(place, exists=True, is_directory=bool(found["mode"] & GO_DIRECTORY))


def _copy_stdin(sink: BinaryIO) -> None:
    while chunk := sys.stdin.buffer.read(_CHUNK):
        sink.write(chunk)


def _pack(path: str, name: str, sink: BinaryIO) -> None:
    from tare.cli.copy_tar import pack

    try:
        pack(path, name, sink)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InvalidArgument(f"open {error.filename}: {error.strerror}") from error


class _Body:
    """A request's body that a thread writes; it waits while the engine does not read."""

    def __init__(self, write: Callable[[BinaryIO], None]) -> None:
        self._write = write
        self.size = 0

    async def send(self, send: Callable[[AsyncIterator[bytes]], Awaitable[None]]) -> None:
        """Have ``send`` send it. The writer's error counts more than what the engine says to a body cut short."""
        reading, writing = os.pipe()
        with contextlib.suppress(OSError):  # an unprivileged user may be over the limit of pipe(7)
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _CHUNK)
        writer = asyncio.create_task(asyncio.to_thread(self._produce, writing))
        failure: TareError | None = None
        try:
            await send(self._chunks(reading))
        except TareError as error:
            failure = error
        finally:
            os.close(reading)
        try:
            await writer
        except BrokenPipeError:
            pass  # the engine had heard enough
        if failure is not None:
            raise failure

    def _produce(self, writing: int) -> None:
        with os.fdopen(writing, "wb", buffering=_CHUNK) as sink:
            self._write(sink)

    async def _chunks(self, reading: int) -> AsyncIterator[bytes]:
        while chunk := await asyncio.to_thread(os.read, reading, _CHUNK):
            self.size += len(chunk)
            yield chunk
