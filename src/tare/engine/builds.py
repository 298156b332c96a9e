"""The builds service: contexts in, images out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from tare.build.builder import Builder
from tare.build.events import BuildEvent, Notice
from tare.build.listing import ContextEntry, ContextListing, ContextSummary
from tare.build.ops.context import open_context
from tare.build.outputs.kinds import pushed_names
from tare.build.reasons.history import project_key
from tare.build.request import BuildRequest, BuildResult, ForecastLine, Progress
from tare.engine.build_cache import BuildCacheService
from tare.engine.build_contexts import BuildContexts
from tare.engine.events import Events
from tare.engine.images import Images
from tare.engine.progress import build_progress
from tare.engine.requests import BuildJob
from tare.errors import InvalidArgument, Unavailable, Unsupported
from tare.model import Platform, Reference
from tare.model.assembly import Assembled, Assembly
from tare.registry.credentials import Credentials
from tare.store.images import Image

_LISTED = 1000  # paths of a context that are told at a time
_credentials: ContextVar[Mapping[str, Credentials]] = ContextVar("credentials of the build")
T = TypeVar("T")
Observe = Callable[[BuildEvent], None]


class ImageSources:
    """The builder's source resolver: the local store, else assembly."""

    def __init__(self, images: Images) -> None:
        self._images = images

    async def resolve(
        self, reference: Reference, platform: Platform, progress: Progress, *, refresh: bool = False
    ) -> Image:
        """See ``build.request.SourceResolver``."""
        credentials = _credentials.get().get(reference.domain)
        return await self._images.resolve_or_pull(
            reference, platform, refresh=refresh, progress=progress, credentials=credentials
        )

    async def assemble_packages(
        self, assembly: Assembly, platform: Platform, progress: Progress, *, lease: str
    ) -> Assembled:
        """See ``build.request.SourceResolver``."""
        return await self._images.assemble_packages(assembly, platform, progress, lease=lease)


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
        self._contexts = BuildContexts(builder.sources, scratch)
        self._host_ca = host_ca
        self._running: set[asyncio.Future[Any]] = set()
        self._closing = False

    async def build(self, job: BuildJob, observe: Observe) -> BuildResult:
        """Build and tag. Raises what is wrong with context, Dockerfile or a step; cancelling ends it cleanly."""
        return await self._to_end(self._build(job, observe))

    async def forecast(self, job: BuildJob, observe: Observe) -> tuple[ForecastLine, ...]:
        """What :meth:`build` would run now, and why. Raises what is wrong with context, Dockerfile or sources."""
        return await self._to_end(self._forecast(job, observe))

    async def _to_end(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
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

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        self._cache.collect_soon(cut_short=task.cancelled() or task.exception() is not None)

    async def list_context(self, job: BuildJob, observe: Callable[[list[ContextEntry]], None]) -> ContextSummary:
        """Tell what the context of ``job`` holds, some paths at a time. Raises what is wrong with it."""
        async with AsyncExitStack() as stack:
            context = await self._contexts.open(job, lambda _: None, stack)
            tree = await asyncio.to_thread(open_context, context.directory, context.ignore_text, context.name)
            if tree is None:
                raise InvalidArgument("this build has no context", hint="give a directory")
            listing = ContextListing(tree)
            entries = listing.entries()
            while paths := await asyncio.to_thread(lambda: list(islice(entries, _LISTED))):
                observe(paths)
            return listing.summary

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
        await self._builder.close()

    async def _build(self, job: BuildJob, observe: Observe) -> BuildResult:
        for note in job.notes:
            observe(Notice(note, level="warning"))
        pushed = pushed_names(job.outputs, [Reference.parse(tag) for tag in job.tags])
        async with AsyncExitStack() as stack:
            result = await self._builder.build(await self._request(job, observe, stack), observe)
        if result.image_id is not None and not job.plan_only:
            await self._push(pushed, job, observe)
        if result.image_id is not None:
            self._events.publish("builder", "build", str(result.image_id), {"name": job.tags[0] if job.tags else ""})
        return result

    async def _push(self, names: Iterable[Reference], job: BuildJob, observe: Observe) -> None:
        """Push the image that was built under each name."""

        def notice(identifier: str, text: str, current: int = 0, total: int = 0, /) -> None:
            observe(Notice(text, id=identifier, current=current, total=total))

        for name in names:
            credentials = job.credentials.get(name.domain)
            await self._images.push(name.name, name.tag, progress=build_progress(notice), credentials=credentials)

    async def _forecast(self, job: BuildJob, observe: Observe) -> tuple[ForecastLine, ...]:
        async with AsyncExitStack() as stack:
            return await self._builder.forecast(await self._request(job, observe, stack), observe)

    async def _request(self, job: BuildJob, observe: Observe, stack: AsyncExitStack) -> BuildRequest:
        """What the builder is asked; the context is there until ``stack`` is closed."""
        _credentials.set(job.credentials)
        context = await self._contexts.open(job, observe, stack)
        return BuildRequest(
            context=context.directory,
            dockerfile=context.dockerfile,
            dockerfile_name=context.name,
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
            ignore_text=context.ignore_text,
            contexts=job.contexts,
            secrets=job.secrets,
            ssh=job.ssh,
            allow=frozenset(job.allow),
            no_cache_stages=job.no_cache_stages,
            outputs=job.outputs,
            annotations=job.annotations,
            ulimits=job.ulimits,
            check=job.check,
            describe=job.describe,
            plan_only=job.plan_only,
            why=job.why,
            project=project_key(_place(job), job.dockerfile),
            keep_failed=job.keep_failed,
            budget=job.budget,
            lock_text=job.lock_text,
            update_lock=job.update_lock,
        )


def _place(job: BuildJob) -> str:
    """What a project is known by: its directory, its URL, else the names of what is built."""
    return str(job.context or job.remote or " ".join(job.tags))


def _network(mode: str) -> Literal["default", "none", "host"]:
    if mode in ("", "default", "bridge"):
        return "default"
    if mode == "none":
        return "none"
    if mode == "host":
        return "host"
    raise Unsupported(f"build network {mode!r} is not available", hint="use default, none or host")
