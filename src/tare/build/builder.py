"""The builder: what the engine calls."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

from tare.base.locks import KeyedLocks
from tare.build.cache.keeper import CacheKeeper
from tare.build.cache.mount_store import CacheMountStore
from tare.build.cache.records import BuildCache, Part
from tare.build.checking import describe, report_of
from tare.build.events import BuildEvent, BuildFinished
from tare.build.exporter import export_image
from tare.build.kept import KeepPolicy, KeptStep, KeptSteps
from tare.build.ops.hashes import HashCache
from tare.build.ops.keeping import Visit, entered
from tare.build.ops.manifests import Manifests
from tare.build.ops.workbench import Workbench
from tare.build.origin import origin_of
from tare.build.outputs.archive import write_archive
from tare.build.outputs.files import write_directory, write_tar
from tare.build.outputs.kinds import check_output, names_of, stores_image
from tare.build.past import find_past
from tare.build.planning import Planning
from tare.build.reasons.explainer import Explainer, past_steps
from tare.build.reasons.forecast import Forecaster, forecast_lines
from tare.build.reasons.history import BuildHistory
from tare.build.request import BuildRequest, BuildResult, ForecastLine, SourceResolver
from tare.build.solver import Shared, Solver
from tare.build.sources.fetcher import Sources
from tare.build.sources.limits import SourceLimits
from tare.build.weighing import check_budget, weigh_in
from tare.errors import NotFound
from tare.model import Digest, Platform, Reference
from tare.model.execution import ExecRequest, Executor
from tare.oci.image import Descriptor, ImageConfig, encode
from tare.store.store import Store

logger = logging.getLogger(__name__)

_MIN_SLOTS = 2  # a step that waits for the network must not stop one that computes


class Builder:
    """Builds images from Dockerfiles; one per engine, any number of builds at the same time.

    ``cache_dir`` is the builder's own directory: cache mounts, file hashes, mount points of views. ``keep`` says how
    many failed steps are kept, and how long.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        sources: SourceResolver,
        cache_dir: Path,
        *,
        limits: SourceLimits | None = None,
        keep: KeepPolicy | None = None,
    ) -> None:
        self._store = store
        self._sources = sources
        locks = KeyedLocks()
        self.sources = Sources(cache_dir / "sources", limits)
        """Fetches what builds name by address; main contexts come from here, too."""
        self._bench = Workbench(
            store=store,
            executor=executor,
            cache=BuildCache(store),
            kept=KeptSteps(store, keep),
            hashes=HashCache(cache_dir / "context-hashes", (cache_dir / "views", store.root / "staging")),
            manifests=Manifests(cache_dir / "manifests"),
            directory=cache_dir,
            locks=locks,
            mounts=CacheMountStore(store.db, cache_dir / "mounts", locks),
            sources=self.sources,
        )
        self.cache = CacheKeeper(self._bench)
        self._history = BuildHistory(store)
        self._writing: set[asyncio.Future[None]] = set()
        self._shared = Shared(slots=asyncio.Semaphore(max(_MIN_SLOTS, os.cpu_count() or 1)))

    async def recover(self) -> None:
        """Undo mounts that a killed engine left, remove failed steps that are too old; once before the first build."""
        await self._bench.recover()
        await self.sources.recover()
        await self._bench.kept.expire()

    @property
    def kept(self) -> KeptSteps:
        """The failed steps that are kept."""
        return self._bench.kept

    async def find_step(self, reference: str) -> KeptStep:
        """The step ``step:<digits>``: one that failed and is kept, else one that the cache knows.

        Raises NotFound, and InvalidArgument for what is no identifier or fits several.
        """
        try:
            return await self.kept.find(reference)
        except NotFound:
            return await find_past(self._store, reference)

    def entered(self, step: KeptStep, visit: Visit) -> AbstractAsyncContextManager[ExecRequest]:
        """What to execute in a step; see :func:`tare.build.ops.keeping.entered`."""
        return entered(step, visit, self._bench)

    async def build(self, request: BuildRequest, observe: Callable[[BuildEvent], None]) -> BuildResult:
        """Build and tag an image; ``observe`` is told what happens, on the event loop.

        Raises DockerfileError (with place), BuildStepFailed, InvalidArgument (over the budget), NotFound (target, base
        image, COPY source), what the executor raises. Cancelling ends all steps, whose mounts and snapshots are gone
        when this returns; finished steps stay cached.
        """
        if request.check:
            return BuildResult(image_id=None, report=await report_of(request, self._store))
        if request.describe:
            return BuildResult(image_id=None, report=await asyncio.to_thread(describe, request))
        for output in request.outputs:
            check_output(output)
        async with self._store.leases.hold() as lease, self._bench.cache.session(), AsyncExitStack() as stack:
            planned = await self._planning(request, observe, lease, stack).plan()
            plan = planned.plan
            past = await self._history.load(request.project) if request.why else {}
            solver = Solver(
                bench=self._bench,
                shared=self._shared,
                plan=plan,
                context=planned.context,
                settings=planned.settings,
                observe=observe,
                lease=lease,
                anew=plan.anew(no_cache=request.no_cache, stages=request.no_cache_stages),
                explainer=Explainer(plan, past, self._bench.manifests) if request.why else None,
            )
            try:
                solved = await solver.solve()
            finally:
                self._later(self._save_notes())
            ledger = weigh_in(plan, solved)
            check_budget(ledger, request.budget)
            platform = request.platform or Platform.host()
            config = await export_image(plan, solved, self._bench, platform, epoch=planned.epoch, lease=lease)
            chain = solved[plan.output.tip].result.chain
            manifest = await self._write_outputs(request, config, chain, planned.epoch)
            tags = await self._store_image(request, config)
            if stores_image(request.outputs):
                await self._store.origins.save(Digest.of(encode(config)), origin_of(plan, ledger))
            await self._history.save(request.project, past_steps(plan, solver.keys))
        image = Digest.of(encode(config))
        observe(BuildFinished(image, tuple(reference.familiar() for reference in tags)))
        return BuildResult(
            image_id=image,
            manifest=manifest,
            names=tuple(str(reference) for reference in tags),
            warnings=(*(finding.short for finding in planned.findings), *plan.warnings),
            ledger=ledger,
            findings=planned.findings,
            locks=planned.locks,
        )

    async def forecast(self, request: BuildRequest, observe: Callable[[BuildEvent], None]) -> tuple[ForecastLine, ...]:
        """What :meth:`build` would run now, and why; runs nothing. Base images are looked up as for a build.

        Raises what is wrong with Dockerfile, images and sources.
        """
        async with self._store.leases.hold() as lease, AsyncExitStack() as stack:
            planned = await self._planning(request, observe, lease, stack).plan()
            plan = planned.plan
            explainer = Explainer(plan, await self._history.load(request.project), self._bench.manifests)
            forecaster = Forecaster(
                bench=self._bench,
                plan=plan,
                context=planned.context,
                settings=planned.settings,
                observe=observe,
                lease=lease,
                explainer=explainer,
                anew=plan.anew(no_cache=request.no_cache, stages=request.no_cache_stages),
            )
            outlooks = await forecaster.forecast()
        self._later(self._save_notes())
        return forecast_lines(plan, outlooks)

    async def close(self) -> None:
        """Finish what is written after builds."""
        if self._writing:
            await asyncio.wait(self._writing)

    def _planning(
        self, request: BuildRequest, observe: Callable[[BuildEvent], None], lease: str, stack: AsyncExitStack
    ) -> Planning:
        return Planning(
            request=request, bench=self._bench, sources=self._sources, observe=observe, lease=lease, stack=stack
        )

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Have ``work`` done without the build waiting for it."""
        task = asyncio.ensure_future(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _save_notes(self) -> None:
        try:
            await asyncio.to_thread(self._bench.hashes.save)
            await asyncio.to_thread(self._bench.manifests.save)
        except OSError:
            logger.warning("cannot write the builder's notes", exc_info=True)

    async def _store_image(self, request: BuildRequest, config: ImageConfig) -> tuple[Reference, ...]:
        """Put the image into the store, unless the build only writes files; returns its names."""
        if not stores_image(request.outputs):
            return ()
        given = (name for output in request.outputs for name in names_of(output))
        tags = tuple(dict.fromkeys((*request.tags, *given)))
        image = await self._store.images.create(config, tag=tags[0] if tags else None)
        for reference in tags[1:]:
            await self._store.images.tag(image, reference)
        return tags

    async def _write_outputs(
        self, request: BuildRequest, config: ImageConfig, chain: Sequence[Part], epoch: int | None
    ) -> Descriptor | None:
        """Write what goes to files; returns the manifest of the last archive."""
        manifest = None
        for output in request.outputs:
            match output.type:
                case "local":
                    await write_directory(output, chain, self._bench)
                case "tar":
                    await write_tar(output, chain, self._bench, epoch)
                case "oci" | "docker" if output.destination:
                    manifest = await write_archive(output, config, request.tags, request.annotations, self._bench)
                case _:
                    pass  # the store's, or nothing to write
        return manifest
