"""Copies between this host and what has files, containers and volumes: Docker's ``cp``, whatever it is offered on."""

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

from tare.cli import copy_paths
from tare.cli.copy_paths import GO_CHARACTER, GO_DEVICE, GO_DIRECTORY, GO_LINK, Place
from tare.errors import InvalidArgument, TareError

if TYPE_CHECKING:
    from tare.client.archives import Archives

_CHUNK = 1 << 20
_IRREGULAR = 1 << 19 | 1 << 24 | 1 << 25  # Go's ModeIrregular, ModeSocket, ModeNamedPipe


async def copy_out(
    files: Archives, name: str, source: str, destination: str, *, follow: bool, keep: bool = False
) -> int:
    """Copy the path ``source`` of ``name`` to this host, or as a tar to standard output ("-"); returns bytes.

    ``keep``: with owners and extended attributes. Raises InvalidArgument, NotFound.
    """
    if destination != "-":
        destination = copy_paths.absolute(destination)
        copy_paths.check_output(destination)
    source, rename = await _followed(files, name, source) if follow else (source, "")
    found, response = await files.copy_from(name, source)
    async with response:
        if destination == "-":
            return await _pour(response.chunks(), sys.stdout.buffer)
        place = Place(path=source, is_directory=bool(found["mode"] & GO_DIRECTORY), rename=rename)
        directory, own_name = copy_paths.target_of(place, copy_paths.local_destination(destination))
        base = copy_paths.split_entry(posixpath.join("/", source))[1]
        reader = _Chunks(response.chunks())
        await asyncio.to_thread(_unpack, reader, directory, base, own_name or rename, keep=keep)
        await reader.finish()
        return reader.size


async def _followed(files: Archives, name: str, source: str) -> tuple[str, str]:
    """Where ``source`` leads to if it is a link, and what its copy is called."""
    found = await files.stat_path(name, source)
    if not found or not found["mode"] & GO_LINK:
        return source, ""
    return copy_paths.rebase(source, posixpath.join(copy_paths.split_entry(source)[0], found["linkTarget"]))


async def _pour(chunks: AsyncIterator[bytes], sink: BinaryIO) -> int:
    size = 0
    async for chunk in chunks:
        await asyncio.to_thread(sink.write, chunk)
        size += len(chunk)
    sink.flush()
    return size


def _unpack(reader: _Chunks, directory: str, base: str, name: str, *, keep: bool) -> None:
    from tare.cli.copy_tar import unpack

    def renamed(path: str) -> str:
        if not name:
            return path
        if base == "/":
            return f"{name}/{path.lstrip('/')}"
        return name + path.removeprefix(base) if path == base or path.startswith(f"{base}/") else path

    try:
        unpack(cast(BinaryIO, reader), directory, renamed, keep=keep)
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

    async def finish(self) -> None:
        """Read what follows the archive's end: the answer ends when the engine has let go of what it copied from."""
        async for _ in self._chunks:
            pass

    async def _next(self) -> bytes:
        return await anext(self._chunks, b"")


async def copy_in(
    files: Archives,
    source: str,
    name: str,
    destination: str,
    *,
    follow: bool,
    user_owns: bool = False,
    keep: bool = False,
) -> int:
    """Copy ``source`` of this host, or a tar from standard input ("-"), to a path of ``name``; returns bytes.

    ``user_owns``: all belongs to the container's user; ``keep``: with extended attributes. Raises InvalidArgument,
    NotFound.
    """
    if source != "-":
        source = copy_paths.absolute(source)
    place = await _destination(files, name, destination)
    if source == "-":
        if not place.is_directory:
            raise InvalidArgument(f'destination "{name}:{destination}" must be a directory')
        body = _Body(_copy_stdin)
        directory = place.path
    else:
        origin = copy_paths.local_source(source, follow=follow)
        directory, own_name = copy_paths.target_of(origin, place)
        own_name = own_name or origin.rename or copy_paths.split_entry(origin.path)[1]
        body = _Body(lambda sink: _pack(origin.path, own_name, sink, keep=keep))
    await body.send(lambda chunks: files.copy_to(name, directory, chunks, keep_owner=user_owns))
    return body.size


async def copy_across(files: Archives, name: str, source: str, target: str, destination: str, *, follow: bool) -> int:
    """Copy a path of ``name`` to one of ``target`` with all that belongs to its files; returns bytes.

    Raises InvalidArgument, NotFound.
    """
    source, rename = await _followed(files, name, source) if follow else (source, "")
    found = await files.stat_path(name, source)
    place = Place(path=source, is_directory=bool(found and found["mode"] & GO_DIRECTORY), rename=rename)
    directory, own_name = copy_paths.target_of(place, await _destination(files, target, destination))
    _, response = await files.copy_from(name, source, rename=own_name or rename)
    size = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal size
        async for chunk in response.chunks():
            size += len(chunk)
            yield chunk

    async with response:
        await files.copy_to(target, directory, counted())
    return size


async def _destination(files: Archives, name: str, path: str) -> Place:
    place = Place(path=path, exists=False)
    found = await files.stat_path(name, path)
    if found and found["mode"] & GO_LINK:
        place = replace(place, path=posixpath.join(copy_paths.split_entry(path)[0], found["linkTarget"]))
        found = await files.stat_path(name, place.path)
    if not found:
        return place
    kind = "a device" if found["mode"] & (GO_DEVICE | GO_CHARACTER) else "an irregular file"
    if found["mode"] & (GO_DEVICE | GO_CHARACTER | _IRREGULAR):
        raise InvalidArgument(f'destination "{name}:{path}" must be a directory or a regular file: got {kind}')
    return replace(place, exists=True, is_directory=bool(found["mode"] & GO_DIRECTORY))


def _copy_stdin(sink: BinaryIO) -> None:
    while chunk := sys.stdin.buffer.read(_CHUNK):
        sink.write(chunk)


def _pack(path: str, name: str, sink: BinaryIO, *, keep: bool) -> None:
    from tare.cli.copy_tar import pack

    try:
        pack(path, name, sink, attributes=keep)
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
