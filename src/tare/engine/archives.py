"""Tars of live file trees: out through a pipe, in at a directory, and what goes wrong in Docker's words."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from tare.archive.confined import open_in_root, resolve_in_root
from tare.archive.tar_writer import TarWriter
from tare.base.readers import CHUNK
from tare.errors import Exhausted, InvalidArgument, TareError

_FULL = (errno.ENOSPC, errno.EDQUOT)


async def stream_tar(
    visit: Callable[[Callable[[Path], None]], Awaitable[None]], write: Callable[[Path, TarWriter], None], what: str
) -> AsyncGenerator[bytes, None]:
    """The tar of what ``write`` adds, piece by piece; close the iterator.

    ``visit(work)`` calls ``work(root)`` in a thread, which waits while nobody reads and ends with its reader. Raises
    what ``visit`` raises; OSError becomes an error about ``what``.
    """
    reading, writing = os.pipe()
    sink = os.fdopen(writing, "wb", buffering=CHUNK)

    def work(root: Path) -> None:
        writer = TarWriter(sink)
        write(root, writer)
        writer.finish()
        sink.flush()

    async def produce() -> None:
        try:
            await visit(work)
        finally:
            with contextlib.suppress(BrokenPipeError):  # what is left in its buffer
                sink.close()

    reader = asyncio.StreamReader(limit=CHUNK)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )
    task = asyncio.create_task(produce(), name=f"files of {what}")
    task.add_done_callback(_look_at_its_end)  # whatever becomes of the reader
    try:
        while data := await reader.read(CHUNK):
            yield data
        await task
    except OSError as error:
        raise file_error(error, what) from error
    finally:
        transport.close()
        await asyncio.wait([task])


def _look_at_its_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # a reader that has gone is no error


def extraction_point(root: Path, path: str) -> str:
    """The directory that ``path`` leads to, all links followed. Raises FileNotFoundError, InvalidArgument."""
    place = "/" + os.fspath(resolve_in_root(root, path).relative_to(root)).removeprefix(".")
    fd = open_in_root(root, place, os.O_PATH)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidArgument("extraction point is not a directory", code="not-a-directory")
    finally:
        os.close(fd)
    return place


def file_error(error: OSError, what: str) -> TareError:
    """The error for the client: a full disk, a file system that is read-only, or what stands in the way."""
    text = f"{error.filename or what}: {error.strerror}"
    if error.errno in _FULL:
        return Exhausted(text, hint="free some space", code="disk-full")
    if error.errno in (errno.ENOTDIR, errno.EINVAL):
        text = f"lstat {error.filename}: {(error.strerror or '').lower()}"
    return InvalidArgument(text, code="file-operation")
