"""Main contexts of builds: a directory of this host, a tar that is sent, an address, or none but a Dockerfile."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tare.archive.confined import open_file_in_root
from tare.base.shielding import finish
from tare.build.dockerfile.dockerignore import IgnoreRules
from tare.build.events import BuildEvent, Notice
from tare.build.ops.context import IGNORE_FILE
from tare.build.sources.addresses import is_http, parse_http, parse_remote
from tare.build.sources.archive import unpack_context
from tare.build.sources.fetcher import Credentials, Sources
from tare.engine.requests import BuildJob
from tare.engine.sandbox import remove_tree
from tare.errors import InvalidArgument, NotFound

DOCKERFILE_LIMIT = 4 << 20  # bytes; a longer one is a mistake
KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
_DEFAULT_NAME = "Dockerfile"
_DECLARED = "distroless.yaml"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")  # Go's strconv.ParseBool

Observe = Callable[[BuildEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MainContext:
    """What is built from.

    ``directory`` is None for a build that has no files. ``ignore_text`` None leaves the context's own ignore file to be
    read; ``name`` is what errors call the Dockerfile.
    """

    directory: Path | None
    dockerfile: str
    name: str
    ignore_text: str | None = None


class BuildContexts:
    """Makes the contexts of builds; what is sent is unpacked below ``scratch``."""

    def __init__(self, sources: Sources, scratch: Path) -> None:
        self._sources = sources
        self._scratch = scratch

    async def open(self, job: BuildJob, observe: Observe, stack: AsyncExitStack) -> MainContext:
        """The job's context, which lasts until ``stack`` is closed.

        Raises NotFound, InvalidArgument, DataCorrupt for what is wrong with context or Dockerfile, and what fetching
        raises.
        """
        if job.dockerfile_text is None and is_http(job.dockerfile):
            job = replace(job, dockerfile_text=await self._fetched(job))
        if job.remote:
            return await self._remote(job, observe, stack)
        if job.context is not None:
            return await _local(job, job.context)
        if job.tar is not None:
            return await self._sent(job, await stack.enter_async_context(self._unpacked(job.tar)))
        if job.dockerfile_text is not None:
            return MainContext(directory=None, dockerfile=job.dockerfile_text, name=job.dockerfile, ignore_text="")
        raise InvalidArgument("no build context", hint="send a tar or name a directory")

    async def _fetched(self, job: BuildJob) -> str:
        """The text of a Dockerfile that was named by a URL."""
        address, given = parse_http(job.dockerfile), _credentials(job)
        found = await self._sources.resolve_file(address, given)
        async with self._sources.file(found, given) as (content, _):
            return await asyncio.to_thread(_read_text, content, address.shown)

    async def _remote(self, job: BuildJob, observe: Observe, stack: AsyncExitStack) -> MainContext:
        address = parse_remote(job.remote)
        observe(Notice(f"load build context {address.shown}", id="context"))
        keep = (job.build_args.get(KEEP_GIT_DIR) or "") in _TRUE
        given = _credentials(job)
        place = await stack.enter_async_context(self._sources.place(address, given, keep_git_dir=keep))
        if await asyncio.to_thread(place.is_dir):
            return await _described(job, place, ignore_text="")
        if job.dockerfile_text is not None:
            raise InvalidArgument(
                f"build context {address.shown}: it is no archive, but a Dockerfile was given, too",
                hint="give a tar archive or a git repository as context",
            )
        text = await asyncio.to_thread(_read_text, place, f"build context {address.shown}")
        return MainContext(directory=None, dockerfile=text, name=_DEFAULT_NAME, ignore_text="")

    async def _sent(self, job: BuildJob, directory: Path) -> MainContext:
        """A sent tar holds what its sender chose; only what that needed and the image shall not have is hidden."""
        found = await _described(job, directory, ignore_text="")
        hidden = await asyncio.to_thread(_hidden, directory, found.name)
        return MainContext(directory=directory, dockerfile=found.dockerfile, name=found.name, ignore_text=hidden)

    @asynccontextmanager
    async def _unpacked(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Path]:
        """The context of a tar stream in a directory that goes away afterwards."""
        await asyncio.to_thread(self._scratch.mkdir, parents=True, exist_ok=True)
        directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="context-", dir=self._scratch))
        try:
            await self._unpack(chunks, directory)
            yield directory
        finally:
            await finish(asyncio.to_thread(remove_tree, directory), what=f"build context {directory}")

    async def _unpack(self, chunks: AsyncIterator[bytes], directory: Path) -> None:
        """Feed the stream through a pipe to a thread that unpacks: no more than a pipe's worth is held in memory."""
        read_fd, write_fd = os.pipe()

        def unpack() -> None:
            with os.fdopen(read_fd, "rb") as stream:
                unpack_context(stream, directory, self._sources.limits, "build context")

        worker = asyncio.ensure_future(asyncio.to_thread(unpack))
        try:
            with os.fdopen(write_fd, "wb", buffering=0) as sink:
                async for chunk in chunks:
                    if worker.done():
                        break
                    await asyncio.to_thread(_write_all, sink.fileno(), chunk)
        finally:
            await worker


def _credentials(job: BuildJob) -> Credentials:
    return Credentials(secrets=job.secrets, ssh=job.ssh)


async def _local(job: BuildJob, directory: Path) -> MainContext:
    if not await asyncio.to_thread(directory.is_dir):
        if await asyncio.to_thread(directory.exists):
            raise InvalidArgument(
                f"unable to prepare context: path {str(directory)!r} is not a directory", hint="name the directory"
            )
        raise NotFound(f"unable to prepare context: path {str(directory)!r} not found")
    return await _described(job, directory, ignore_text=await asyncio.to_thread(_own_ignore_file, job, directory))


async def _described(job: BuildJob, directory: Path, *, ignore_text: str | None) -> MainContext:
    text, name = job.dockerfile_text, job.dockerfile
    if text is None:
        name = await asyncio.to_thread(_dockerfile_name, directory, job.dockerfile)
        text = await asyncio.to_thread(read_dockerfile, directory, name)
    return MainContext(directory=directory, dockerfile=text, name=name, ignore_text=ignore_text)


def _dockerfile_name(context: Path, name: str) -> str:
    """``name``, or ``dockerfile`` where that is all there is (Docker accepts it in place of the default name)."""
    if name == _DEFAULT_NAME and not (context / name).exists() and (context / name.lower()).exists():
        return name.lower()
    return name


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        return  # the unpacker has failed and says why


def read_dockerfile(context: Path, name: str) -> str:
    """The Dockerfile's text; a symbolic link cannot lead out of the context. Raises NotFound, InvalidArgument."""
    try:
        with os.fdopen(open_file_in_root(context, name), "rb") as stream:
            data = stream.read(DOCKERFILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"failed to read dockerfile: open {name}: no such file or directory",
            hint=f"there is none in {context}: name it with -f{_declared(context)}",
            code="dockerfile-missing",
        ) from error
    except IsADirectoryError as error:
        raise InvalidArgument(f"failed to read dockerfile: {name} is a directory") from error
    except OSError as error:
        raise InvalidArgument(f"failed to read dockerfile: {name}: {error.strerror}") from error
    return _decoded(data, name)


def _declared(context: Path) -> str:
    """The declarative file that may be meant where there is no Dockerfile."""
    return f", such as -f {_DECLARED}" if (context / _DECLARED).is_file() else ""


def _read_text(file: Path, name: str) -> str:
    with file.open("rb") as stream:
        data = stream.read(DOCKERFILE_LIMIT + 1)
    if b"\0" in data[:1024]:
        raise InvalidArgument(
            f"{name}: it is neither a tar archive nor a Dockerfile",
            hint="give a tar archive (plain, gzip, bzip2, xz or zstd), a git repository or a Dockerfile's text",
            code="context-kind",
        )
    return _decoded(data, name)


def _decoded(data: bytes, name: str) -> str:
    if len(data) > DOCKERFILE_LIMIT:
        raise InvalidArgument(f"{name}: larger than {DOCKERFILE_LIMIT} bytes, this is no Dockerfile")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{name}: not UTF-8 text: {error}") from error


def _own_ignore_file(job: BuildJob, context: Path) -> str | None:
    """``<Dockerfile>.dockerignore``, which wins over ``.dockerignore``."""
    return _ignore_text(context, f"{job.dockerfile}{IGNORE_FILE}")


def _ignore_text(context: Path, name: str) -> str | None:
    try:
        with os.fdopen(open_file_in_root(context, name), "rb") as stream:
            return stream.read(DOCKERFILE_LIMIT).decode(errors="replace")
    except OSError:
        return None


def _hidden(context: Path, dockerfile: str) -> str:
    """Rules that hide the Dockerfile and the ignore file where the ignore file says so, as Docker's builder does.

    Docker's command line sends both whatever the rules say: the engine needs them.
    """
    text = _ignore_text(context, IGNORE_FILE)
    if not text:
        return ""
    rules = IgnoreRules.parse(text, IGNORE_FILE)
    names = [name for name in (IGNORE_FILE, dockerfile) if rules.matches(name, is_dir=False)]
    return "\n".join("".join(f"\\{letter}" if letter in "*?[]\\!#" else letter for letter in name) for name in names)
