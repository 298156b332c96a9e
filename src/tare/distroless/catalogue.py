"""Assembles the images of ``tare.local`` and what build files ask for, when they are asked for."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tare.base.atomic import write_atomic
from tare.base.single_flight import SingleFlight
from tare.distroless import debian, recipes
from tare.distroless.assemble import SNAPSHOT_PREFIX, SPOOL_PREFIX, Assembler, ImagePlan
from tare.distroless.debs import DebCache, Progress
from tare.distroless.fetch import ARCHIVE_404, Downloader
from tare.distroless.image import distroless_tree
from tare.distroless.index import Archive, VerifiedSuite
from tare.distroless.orders import Order, names, order_of_assembly, order_of_reference
from tare.distroless.packages import Package, PackageIndex
from tare.distroless.pins import check_pins, find_pinned, pin_of
from tare.distroless.resolver import Exclusions, Wish, resolve
from tare.distroless.settings import ArchiveSettings
from tare.errors import DataCorrupt, NotFound
from tare.model import Digest, Platform, Reference
from tare.model.assembly import Assembled, Assembly, Pin
from tare.model.execution import Executor
from tare.oci.image import ExecutionConfig
from tare.store.store import Store

__all__ = ["DebianCatalogue", "names"]

logger = logging.getLogger(__name__)

FORMAT = 4
"""Raised whenever the same packages would give other bytes, so that remembered images are assembled again."""


@dataclass(frozen=True, slots=True)
class _Access:
    """The archive of one release, through one connection pool."""

    archive: Archive
    downloader: Downloader

    async def suites(self) -> tuple[VerifiedSuite, ...]:
        return await self.archive.suites(self.downloader)

    async def index(self, suites: tuple[VerifiedSuite, ...], architecture: str) -> PackageIndex:
        return await self.archive.index(self.downloader, suites, architecture)


class _Remembered(msgspec.Struct):
    image: str
    document: str
    pins: tuple[Pin, ...]


class DebianCatalogue:
    """Assembles images on demand from the Debian archive (the archive's address comes from settings or host)."""

    def __init__(self, store: Store, executor: Executor, settings: ArchiveSettings, cache_dir: Path) -> None:
        self._store = store
        self._settings = settings
        self._cache = cache_dir
        self._debs = DebCache(store.db, cache_dir)
        self._assembler = Assembler(store, executor, self._debs, cache_dir, settings.source_date_epoch)
        self._flights: SingleFlight[Assembled] = SingleFlight()
        self._starting = asyncio.Lock()
        self._started = False

    async def assemble(self, reference: Reference, platform: Platform, progress: Progress) -> Digest:
        """The id of the image that ``reference`` names, in the store and tagged; assembled unless it is up to date.

        Concurrent calls for one reference share one assembly. Raises NotFound naming what there is, Unavailable
        without archive or network, DataCorrupt for a wrong signature, Conflict for dependencies that cannot be met,
        Unsupported for a platform that cannot be assembled here.
        """
        order = order_of_reference(reference, platform)
        done = await self._flights.do(f"{reference} {platform}", lambda: self._assemble(order, progress))
        return done.image

    async def assemble_packages(
        self, assembly: Assembly, platform: Platform, progress: Progress, *, lease: str
    ) -> Assembled:
        """The image that ``assembly`` describes, in the store without a tag and held by ``lease``, and its packages.

        It has the defaults (environment, entry point) of the assembly's base. With pins, the archive is asked only for
        packages that are not in the cache. Raises as :meth:`assemble`; moreover NotFound for an unknown slice and for
        a pinned package that is gone, Conflict for pins that do not fit the assembly, InvalidArgument.
        """
        order = order_of_assembly(assembly, platform)
        if order.pins is not None:
            check_pins(order.pins, order.architecture)
        while True:
            done = await self._flights.do(_identity(order), lambda: self._assemble(order, progress))
            await self._store.leases.add(lease, "image", str(done.image))
            try:
                await self._store.images.get(done.image)
            except NotFound:
                continue  # another caller had done with it before this one's lease held it
            return done

    async def _assemble(self, order: Order, progress: Progress) -> Assembled:
        await self._start()
        async with Downloader() as downloader:
            access = _Access(Archive(self._settings, self._cache, order.release), downloader)
            suites: tuple[VerifiedSuite, ...] = ()
            if order.pins is None:
                progress("archive", f"checking Debian {order.release.version} ({order.release.codename})")
                suites = await access.suites()
            memory = self._memory(order, suites)
            known = await self._known(memory, order.reference)
            if known is not None:
                return known
            cached = {pin: await asyncio.to_thread(self._debs.verified, pin.sha256) for pin in order.pins or ()}
            if missing := sum(path is None for path in cached.values()):
                progress("archive", f"looking for {missing} of {len(cached)} pinned packages")
                suites = await access.suites()
            try:
                packages = await self._gather(order, access, suites, cached, progress)
            except (DataCorrupt, NotFound) as error:
                if isinstance(error, NotFound) and error.code != ARCHIVE_404:
                    raise
                progress("archive", "the mirror has changed meanwhile, starting again")
                suites = await access.suites()
                if order.pins is None:
                    memory = self._memory(order, suites)
                try:
                    packages = await self._gather(order, access, suites, cached, progress)
                except NotFound as again:
                    if again.code != ARCHIVE_404:
                        raise
                    hint = "the mirror is inconsistent: try again later or choose another one"
                    raise DataCorrupt(again.message, hint=hint, code="mirror-inconsistent") from again
        image, document = await self._build(order, packages, suites, progress)
        pins = tuple(pin_of(package) for package in packages)
        await asyncio.to_thread(_remember, memory, _Remembered(str(image), document.decode(), pins))
        return Assembled(image=image, pins=pins)

    async def _gather(
        self,
        order: Order,
        access: _Access,
        suites: tuple[VerifiedSuite, ...],
        cached: Mapping[Pin, Path | None],
        progress: Progress,
    ) -> list[Package]:
        """Choose packages, sorted by name, and have them all in the cache. No suites: all pinned ones are cached."""
        index = None
        if suites:
            progress("archive", "reading the package indexes")
            index = await access.index(suites, order.architecture)

        def chosen() -> list[Package]:
            if order.recipe is not None and order.pins is not None:
                return find_pinned(order.recipe, cached, index)
            assert index is not None
            return _choose(order, index, suites)

        packages = await asyncio.to_thread(chosen)
        await self._debs.fetch(access.downloader, packages, progress)
        return packages

    async def _start(self) -> None:
        """Before the first assembly, delete what a killed engine left half-made."""
        async with self._starting:
            if self._started:
                return
            await asyncio.to_thread(_sweep, self._cache)
            query = "SELECT key FROM snapshots WHERE kind = 'active' AND key LIKE ?"
            keys = await self._store.db.read(
                lambda connection: connection.execute(query, (f"{SNAPSHOT_PREFIX}%",)).fetchall()
            )
            for (key,) in keys:
                await self._store.snapshots.remove(key)
            self._started = True

    async def _build(
        self, order: Order, packages: Sequence[Package], suites: Sequence[VerifiedSuite], progress: Progress
    ) -> tuple[Digest, bytes]:
        progress("assemble", f"{order.title}: {len(packages)} packages")
        async with self._assembler.opened(packages) as debs:
            newest = self._assembler.newest(debs, order.epoch)
            if order.recipe is not None:
                tree = await asyncio.to_thread(distroless_tree, debs, order.recipe, order.architecture, newest)
                plan = _plan(order, recipes.wanted(order.recipe), recipes.execution(order.recipe, debs))
                stored = await self._assembler.store_image(tree, plan, newest)
            else:
                sources = [suite.source for suite in suites]
                unpacked = await asyncio.to_thread(
                    debian.unpacked_tree, debs, sources, str(self._settings.keyring), order.architecture
                )
                config = ExecutionConfig(env=[debian.ENVIRONMENT[0]], cmd=["bash"])
                async with self._assembler.configured(unpacked, progress) as tree:
                    await asyncio.to_thread(debian.normalise, tree, newest)
                    plan = _plan(order, [Wish(package.name) for package in packages], config)
                    stored = await self._assembler.store_image(tree, plan, newest)
        progress("assemble", f"{order.title}: {stored[0].hex[:12]}, {tree.size() / 1e6:.1f} MB")
        return stored

    def _memory(self, order: Order, suites: Sequence[VerifiedSuite]) -> Path:
        """Where the image is noted that these very release files, or pins, give."""
        facts = (
            FORMAT,
            _identity(order),
            [(str(suite.source), suite.source.components, suite.digest) for suite in suites],
            self._settings.source_date_epoch,
            str(self._settings.keyring),
        )
        return self._cache / "assembled" / hashlib.sha256(msgspec.json.encode(facts)).hexdigest()

    async def _known(self, path: Path, reference: Reference | None) -> Assembled | None:
        note = await asyncio.to_thread(_read_note, path)
        if note is None:
            return None
        try:
            image = await self._store.images.create_from(note.document.encode(), tag=reference, beside=True)
        except NotFound:
            return None  # its layer was removed meanwhile
        if not await self._store.is_whole(image):
            return None  # damaged: assembled anew it is whole again
        return Assembled(image=image, pins=note.pins)


def _identity(order: Order) -> str:
    """What tells this order from all others."""
    return msgspec.json.encode(replace(order, reference=None), enc_hook=str, order="deterministic").decode() + str(
        order.reference or ""
    )


def _remember(path: Path, note: _Remembered) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, msgspec.json.encode(note), durable=False)


def _sweep(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    for path in cache.glob(f"{SPOOL_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (*cache.glob("debs/.*"), *cache.glob("archive/.*"), *cache.glob("archive/*.download")):
        path.unlink(missing_ok=True)


def _read_note(path: Path) -> _Remembered | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Remembered)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _choose(order: Order, index: PackageIndex, suites: Sequence[VerifiedSuite]) -> list[Package]:
    if order.recipe is not None:
        return resolve(index, recipes.wanted(order.recipe), recipes.exclusions(order.recipe))
    wanted = [*debian.SEED, *(package.name for package in index.notable())]
    if any(suite.source.uri.startswith("https:") for suite in suites):
        wanted.append("ca-certificates")  # else apt-get update inside could trust no mirror
    return resolve(index, wanted, Exclusions())


def _plan(order: Order, wanted: Sequence[Wish], config: ExecutionConfig) -> ImagePlan:
    return ImagePlan(
        reference=order.reference,
        platform=order.platform,
        config=config,
        created_by=f"assemble {order.title} # {' '.join(sorted({wish.name for wish in wanted}))}",
    )
