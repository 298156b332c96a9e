"""The builds service: contexts in, images out."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

from tare.archive.compression import decompress
from tare.archive.confined import open_in_root
from tare.archive.tar_reader import extract_tree
from tare.base.shielding import finish
from tare.build.builder import Builder
from tare.build.events import BuildEvent
from tare.build.request import BuildRequest, BuildResult
from tare.engine.build_cache import BuildCacheService
from tare.engine.events import Events
from tare.engine.images import Images
from tare.engine.requests import BuildJob
from tare.engine.sandbox import remove_tree
from tare.errors import InvalidArgument, NotFound, Unavailable, Unsupported
from tare.model import Platform, Reference
from tare.store.images import Image

DOCKERFILE_LIMIT = 4 << 20  # bytes; a longer one is a mistake
Observe = Callable[[BuildEvent], None]
Progress = Callable[[str, str], None]


class ImageSources:
    """The builder's source resolver: the local store, else assembly."""

    def __init__(self, images: Images) -> None:
        self._images = images

    async def resolve(
        self, reference: Reference, platform: Platform, progress: Progress, *, refresh: bool = False
    ) -> Image:
        """See ``build.request.SourceResolver``."""
        return await self._images.resolve_or_pull(reference, platform, refresh=refresh, progress=progress)


class Builds:
    """Builds images from contexts."""

    def __init__(
        self,
        *,
        builder: Builder,
        images: Images,
        events: Events,
        scratch: Path,
        host_ca: bool,
        cache: BuildCacheService,
    ) -> None:
        self._builder = builder
        self._cache = cache
        self._images = images
        self._events = events
        self._scratch = scratch
        self._host_ca = host_ca
        self._running: set[asyncio.Future[BuildResult]] = set()
        self._closing = False

    async def build(self, job: BuildJob, observe: Observe) -> BuildResult:
        """Build and tag. Raises what is wrong with context, Dockerfile or a step; cancelling ends it cleanly."""
        task = asyncio.ensure_future(self._build(job, observe))
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # such as a context that ends early: that nobody waits any more is what counts
            if self._closing:
                raise Unavailable("the engine is stopping", hint="build again when it runs") from None
            raise

    def _ended(self, task: asyncio.Future[BuildResult]) -> None:
        self._running.discard(task)
        self._cache.collect_soon(cut_short=task.cancelled() or task.exception() is not None)

    async def recover(self) -> None:
        """Undo what builds of a killed engine left mounted."""
        await self._builder.recover()

    async def close(self) -> None:
        """End the builds that run, with their mounts undone."""
        self._closing = True
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _build(self, job: BuildJob, observe: Observe) -> BuildResult:
        async with AsyncExitStack() as stack:
            context = await self._context(job, stack)
            text = job.dockerfile_text
            if text is None:
                text = await asyncio.to_thread(read_dockerfile, context, job.dockerfile)
            request = BuildRequest(
                context=context,
                dockerfile=text,
                dockerfile_name=job.dockerfile,
                target=job.target,
                build_args=job.build_args,
                labels=job.labels,
                tags=tuple(Reference.parse(tag) for tag in job.tags),
                no_cache=job.no_cache,
                pull=job.pull,
                network=_network(job.network),
                extra_hosts=job.extra_hosts,
                platform=Platform.parse(job.platform) if job.platform else None,
                shm_size=job.shm_size or BuildRequest(context=None, dockerfile="").shm_size,
                host_ca=self._host_ca,
                ignore_text=await asyncio.to_thread(_own_ignore_file, context, job.dockerfile),
                contexts=job.contexts,
                secrets=job.secrets,
                ssh=job.ssh,
                allow=frozenset(job.allow),
                no_cache_stages=job.no_cache_stages,
                outputs=job.outputs,
                annotations=job.annotations,
                ulimits=job.ulimits,
                check=job.check,
                plan_only=job.plan_only,
                why=job.why,
                keep_failed=job.keep_failed,
                budget=job.budget,
            )
            result = await self._builder.build(request, observe)
        self._events.publish("builder", "build", str(result.image_id), {"name": job.tags[0] if job.tags else ""})
        return result

    async def _context(self, job: BuildJob, stack: AsyncExitStack) -> Path:
        if job.remote:
            raise Unsupported(
                f"build context {job.remote}: remote contexts are not available in this version",
                hint="fetch it and name the directory",
            )
        if job.context is not None:
            if not await asyncio.to_thread(job.context.is_dir):
                raise NotFound(f"unable to prepare context: path {str(job.context)!r} not found")
            return job.context
        if job.tar is None:
            raise InvalidArgument("no build context", hint="send a tar or name a directory")
        return await stack.enter_async_context(self._unpacked(job.tar))

    @asynccontextmanager
    async def _unpacked(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Path]:
        """The context of a tar stream in a directory that goes away afterwards."""
        await asyncio.to_thread(self._scratch.mkdir, parents=True, exist_ok=True)
        directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="context-", dir=self._scratch))
        try:
            await _unpack(chunks, directory)
            yield directory
        finally:
            await finish(asyncio.to_thread(remove_tree, directory), what=f"build context {directory}")


async def _unpack(chunks: AsyncIterator[bytes], directory: Path) -> None:
    """Feed the stream through a pipe to a thread that unpacks: no more than a pipe's worth is held in memory."""
    read_fd, write_fd = os.pipe()

    def unpack() -> None:
        with os.fdopen(read_fd, "rb") as stream:
            extract_tree(decompress(stream), directory)
            while stream.read(1 << 16):
                pass  # what follows the end of the archive, so that the sender is not cut off

    worker = asyncio.ensure_future(asyncio.to_thread(unpack))
    try:
        with os.fdopen(write_fd, "wb", buffering=0) as sink:
            async for chunk in chunks:
                if worker.done():
                    break
                await asyncio.to_thread(_write_all, sink.fileno(), chunk)
    finally:
        await worker


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
        with os.fdopen(open_in_root(context, name), "rb") as stream:
            data = stream.read(DOCKERFILE_LIMIT + 1)
    except FileNotFoundError as error:
        raise NotFound(
            f"failed to read dockerfile: open {name}: no such file or directory",
            hint=f"there is none in {context}: name it with -f",
            code="dockerfile-missing",
        ) from error
    except IsADirectoryError as error:
        raise InvalidArgument(f"failed to read dockerfile: {name} is a directory") from error
    if len(data) > DOCKERFILE_LIMIT:
        raise InvalidArgument(f"{name}: larger than {DOCKERFILE_LIMIT} bytes, this is no Dockerfile")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{name}: not UTF-8 text: {error}") from error


def _own_ignore_file(context: Path, dockerfile: str) -> str | None:
    """``<Dockerfile>.dockerignore``, which wins over ``.dockerignore``."""
    try:
        with os.fdopen(open_in_root(context, f"{dockerfile}.dockerignore"), "rb") as stream:
            return stream.read(DOCKERFILE_LIMIT).decode(errors="replace")
    except OSError:
        return None


def _network(mode: str) -> Literal["default", "none", "host"]:
    if mode in ("", "default", "bridge"):
        return "default"
    if mode == "none":
        return "none"
    if mode == "host":
        return "host"
    raise Unsupported(f"build network {mode!r} is not available", hint="use default, none or host")
