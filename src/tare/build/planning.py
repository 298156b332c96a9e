"""From a request to what is worked: plan, context and settings, of a Dockerfile or of a declarative file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tare.base.shielding import to_end
from tare.build.assembly.including import Documents
from tare.build.assembly.lockfile import LockUpdate
from tare.build.cache.records import Part, Result, make_key
from tare.build.checking import ignore_rules
from tare.build.checks.findings import Finding
from tare.build.checks.linter import Linter
from tare.build.events import BuildEvent, Notice, PlanMade
from tare.build.graph import Plan
from tare.build.named import NamedContexts
from tare.build.ops.context import open_context
from tare.build.ops.operation import Settings
from tare.build.ops.select import Tree
from tare.build.ops.workbench import Workbench
from tare.build.outputs.timestamps import read_epoch
from tare.build.planner import Planner
from tare.build.request import BuildRequest, SourceResolver
from tare.errors import InvalidArgument
from tare.model import Platform, Reference
from tare.model.assembly import Assembly, Pin
from tare.model.execution import Limit
from tare.store.images import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A build that can be worked. ``epoch`` (seconds) bounds the times of what is on top of its base, None: nothing.

    ``findings`` are those of the build checks, ``locks`` the lock files that the client is to write.
    """

    plan: Plan
    context: Tree | None
    settings: Settings
    epoch: int | None
    findings: tuple[Finding, ...]
    locks: tuple[LockUpdate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """The planning of one build: what is found stays while ``lease`` and ``stack`` are there."""

    request: BuildRequest
    bench: Workbench
    sources: SourceResolver
    observe: Callable[[BuildEvent], None]
    lease: str
    stack: AsyncExitStack

    async def plan(self) -> Planned:
        """Read the file, find its images, assemble its packages; plan, findings and warnings are told.

        Raises DockerfileError, NotFound for target or image, ChecksFailed, what assembling and fetching raise.
        """
        request = self.request
        epoch = read_epoch(request.build_args)
        named = self._named()
        documents = Documents(
            request=request, named=named, resolve=self._resolve, assemble=self._assemble, observe=self.observe
        )
        if request.is_declarative:
            plan, context = await self._of_document(documents)
            findings = tuple(documents.findings)
            epoch = documents.built if epoch is None else epoch
        else:
            plan, context, linter = await self._of_dockerfile(documents)
            findings = (*linter.findings, *documents.findings)
        if request.update_lock and not documents.locks:
            raise InvalidArgument(
                f"{request.dockerfile_name}: nothing in it is locked",
                hint="--update-lock is for declarative files (.yaml) and Dockerfiles that start from one",
                code="lock-none",
            )
        self.observe(PlanMade(plan.shown))
        for warning in (*plan.warnings, *_unknown_stages(plan, request.no_cache_stages)):
            self.observe(Notice(warning, level="warning"))
        return Planned(
            plan=plan,
            context=context,
            settings=_settings(request, named),
            epoch=epoch,
            findings=findings,
            locks=tuple(documents.locks.values()),
        )

    async def _of_dockerfile(self, documents: Documents) -> tuple[Plan, Tree | None, Linter]:
        linter = Linter(self.request, self.observe)
        dockerfile = await linter.read()
        context = await self._context()
        plan = await Planner(dockerfile, self.request).plan(
            self._resolve,
            documents.open,
            lambda bases, known: linter.inspect(bases, known, ignore_rules(context)),
        )
        linter.refuse()
        return plan, context, linter

    async def _of_document(self, documents: Documents) -> tuple[Plan, Tree | None]:
        planner, opened = await documents.main()
        context = await self._context()
        return await planner.plan(self._resolve, opened), context

    async def _context(self) -> Tree | None:
        request = self.request
        return await asyncio.to_thread(open_context, request.context, request.ignore_text, request.dockerfile_name)

    def _progress(self, name: str, text: str, current: int = 0, total: int = 0, /) -> None:
        self.observe(Notice(text, id=name, current=current, total=total))

    async def _resolve(self, reference: Reference, platform: Platform) -> Image:
        image = await self.sources.resolve(reference, platform, self._progress, refresh=self.request.pull)
        return await self._held(image)

    async def _assemble(self, assembly: Assembly, platform: Platform) -> tuple[Image, tuple[Pin, ...]]:
        """Have packages assembled. What stays of it is a record of the build cache, not an image without a name."""
        images = self.bench.store.images
        assembled = await self.sources.assemble_packages(assembly, platform, self._progress, lease=self.lease)
        self.stack.push_async_callback(images.remove_unnamed, assembled.image, self.lease)
        image = await self._held(await images.get(assembled.image))
        (layer,) = image.diff_ids
        key = make_key({"op": "assemble", "layer": str(layer), "packages": [pin.name for pin in assembled.pins]})
        if await self.bench.cache.find(key) is None:
            part = Part(kind="layer", key=str(layer))
            made = Result(part=part, chain=(part,), bytes=image.size, created=time.time())
            await to_end(self.bench.cache.put(key, made, kind="content"))
        return image, assembled.pins

    async def _held(self, image: Image) -> Image:
        await self.bench.store.leases.add(self.lease, "image", str(image.id))
        await self._protect(image)
        return image

    async def _protect(self, image: Image) -> None:
        await self.bench.protect(self.lease, [Part(kind="layer", key=str(diff_id)) for diff_id in image.diff_ids])

    def _named(self) -> NamedContexts:
        return NamedContexts(
            request=self.request,
            sources=self.bench.sources,
            store=self.bench.store,
            resolve=self._resolve,
            protect=self._protect,
            stack=self.stack,
            lease=self.lease,
        )


def _settings(request: BuildRequest, named: NamedContexts) -> Settings:
    return Settings(
        named=named.trees,
        extra_hosts=request.extra_hosts,
        shm_size=request.shm_size,
        host_ca=request.host_ca,
        secrets=request.secrets,
        ssh=request.ssh,
        limits=tuple(Limit(name=item.name, soft=item.soft, hard=item.hard) for item in request.ulimits),
        keep_failed=request.keep_failed,
    )


def _unknown_stages(plan: Plan, stages: Iterable[str]) -> list[str]:
    known = {step.stage for step in plan.steps}
    unknown = sorted(set(stages) - known)
    return [f"--no-cache-filter {name}: the build has no such stage" for name in unknown]
