"""The builder: what the engine calls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tare.base.locks import KeyedLocks
from tare.build.cache import BuildCache, Part
from tare.build.cache_gc import CacheKeeper
from tare.build.cache_mount_store import CacheMountStore
from tare.build.dockerfile.stages import parse_dockerfile
from tare.build.events import BuildEvent, BuildFinished, Notice, PlanMade
from tare.build.exporter import export_image, weigh_in
from tare.build.ops.context import open_context
from tare.build.ops.hashes import HashCache
from tare.build.ops.operation import Settings
from tare.build.ops.workbench import Workbench
from tare.build.outputs.archive import write_archive
from tare.build.outputs.files import write_directory, write_tar
from tare.build.outputs.kinds import check_output, names_of, stores_image
from tare.build.outputs.timestamps import read_epoch
from tare.build.planner import Planner, ResolveImage
from tare.build.request import BuildRequest, BuildResult, SourceResolver
from tare.build.solver import Shared, Solver
from tare.errors import Unsupported
from tare.model import Digest, Platform, Reference
from tare.model.execution import Executor, Limit
from tare.oci.image import Descriptor, ImageConfig, encode
from tare.store.images import Image
from tare.store.store import Store

_MIN_SLOTS = 2  # a step that waits for the network must not stop one that computes


class Builder:
    """Builds images from Dockerfiles; one per engine, any number of builds at the same time.

    ``cache_dir`` is the builder's own directory: cache mounts, file hashes, mount points of views.
    """

    def __init__(self, store: Store, executor: Executor, sources: SourceResolver, cache_dir: Path) -> None:
        self._store = store
        self._sources = sources
        locks = KeyedLocks()
        self._bench = Workbench(
            store=store,
            executor=executor,
            cache=BuildCache(store),
            hashes=HashCache(cache_dir / "context-hashes", (cache_dir / "views", store.root / "staging")),
            directory=cache_dir,
            locks=locks,
            mounts=CacheMountStore(store.db, cache_dir / "mounts", locks),
        )
        self.cache = CacheKeeper(self._bench)
        self._shared = Shared(slots=asyncio.Semaphore(max(_MIN_SLOTS, os.cpu_count() or 1)))

    async def recover(self) -> None:
        """Undo mounts that a killed engine left; call once before the first build."""
        await self._bench.recover()

    async def build(self, request: BuildRequest, observe: Callable[[BuildEvent], None]) -> BuildResult:
        """Build and tag an image; ``observe`` is told what happens, on the event loop.

        Raises DockerfileError (with place), BuildStepFailed, NotFound (target, base image, COPY source), what the
        executor raises. Cancelling ends all steps, whose mounts and snapshots are gone when this returns; finished
        steps stay cached.
        """
        _refuse_unavailable(request)
        for output in request.outputs:
            check_output(output)
        epoch = read_epoch(request.build_args)
        dockerfile = await asyncio.to_thread(parse_dockerfile, request.dockerfile, request.dockerfile_name)
        context = await asyncio.to_thread(open_context, request.context, request.ignore_text, request.dockerfile_name)
        async with self._store.leases.hold() as lease, self._bench.cache.session():
            plan = await Planner(dockerfile, request).plan(self._resolver(lease, observe, refresh=request.pull))
            observe(PlanMade(plan.shown))
            for warning in plan.warnings:
                observe(Notice(warning, level="warning"))
            solver = Solver(
                bench=self._bench,
                shared=self._shared,
                plan=plan,
                context=context,
                settings=_settings(request),
                observe=observe,
                lease=lease,
                no_cache=request.no_cache,
            )
            try:
                solved = await solver.solve()
            finally:
                await asyncio.to_thread(self._bench.hashes.save)
            platform = request.platform or Platform.host()
            config = await export_image(plan, solved, self._bench, platform, epoch=epoch, lease=lease)
            chain = solved[plan.output.tip].result.chain
            manifest = await self._write_outputs(request, config, chain, epoch)
            tags = await self._store_image(request, config)
        image = Digest.of(encode(config))
        observe(BuildFinished(image, tuple(reference.familiar() for reference in tags)))
        names = tuple(str(reference) for reference in tags)
        ledger = weigh_in(plan, solved)
        return BuildResult(image_id=image, manifest=manifest, names=names, warnings=plan.warnings, ledger=ledger)

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

    def _resolver(self, lease: str, observe: Callable[[BuildEvent], None], *, refresh: bool) -> ResolveImage:
        def progress(name: str, text: str) -> None:
            observe(Notice(text, id=name))

        async def resolve(reference: Reference, platform: Platform) -> Image:
            image = await self._sources.resolve(reference, platform, progress, refresh=refresh)
            await self._store.leases.add(lease, "image", str(image.id))
            await self._bench.protect(lease, [Part(kind="layer", key=str(diff_id)) for diff_id in image.diff_ids])
            return image

        return resolve


def _settings(request: BuildRequest) -> Settings:
    return Settings(
        extra_hosts=request.extra_hosts,
        shm_size=request.shm_size,
        host_ca=request.host_ca,
        secrets=request.secrets,
        ssh=request.ssh,
        limits=tuple(Limit(name=item.name, soft=item.soft, hard=item.hard) for item in request.ulimits),
    )


_UNAVAILABLE = {
    "contexts": "--build-context",
    "no_cache_stages": "--no-cache-filter",
    "check": "--check",
    "plan_only": "--plan",
    "why": "--why",
    "keep_failed": "--debug",
    "budget": "--budget",
}


def _refuse_unavailable(request: BuildRequest) -> None:
    for name, option in _UNAVAILABLE.items():
        if getattr(request, name):
            raise Unsupported(f"{option} is not supported yet", hint="build without it")
