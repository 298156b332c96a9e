"""The images of ``tare.local``: which there are, and how a reference becomes one of them."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import logging
import shutil
from collections.abc import Sequence
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
from tare.distroless.packages import Package, PackageIndex
from tare.distroless.resolver import Exclusions, resolve
from tare.distroless.settings import RELEASES, ArchiveSettings, DebianRelease
from tare.errors import DataCorrupt, NotFound, Unsupported
from tare.model import Digest, Platform, Reference
from tare.model.execution import Executor
from tare.oci.image import ExecutionConfig
from tare.store.store import Store

logger = logging.getLogger(__name__)

FORMAT = 3
"""Raised whenever the same packages would give other bytes, so that remembered images are assembled again."""

DEBIAN_ARCHITECTURES = {"amd64": "amd64", "arm64": "arm64", "arm": "armhf", "386": "i386"}
"""Debian's names of OCI architectures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """One reference, understood. ``recipe`` is ``None`` for the whole Debian."""

    reference: Reference
    platform: Platform
    release: DebianRelease
    architecture: str
    recipe: recipes.Recipe | None


class _Remembered(msgspec.Struct):
    image: str


class DebianCatalogue:
    """Assembles images on demand from the Debian archive (the archive's address comes from settings or host)."""

    def __init__(self, store: Store, executor: Executor, settings: ArchiveSettings, cache_dir: Path) -> None:
        self._store = store
        self._settings = settings
        self._cache = cache_dir
        self._debs = DebCache(store.db, cache_dir)
        self._assembler = Assembler(store, executor, self._debs, cache_dir, settings.source_date_epoch)
        self._flights: SingleFlight[Digest] = SingleFlight()
        self._starting = asyncio.Lock()
        self._started = False

    async def assemble(self, reference: Reference, platform: Platform, progress: Progress) -> Digest:
        """The id of the image that ``reference`` names, in the store and tagged; assembled unless it is up to date.

        Concurrent calls for one reference share one assembly. Raises NotFound naming what there is, Unavailable
        without archive or network, DataCorrupt for a wrong signature, Conflict for dependencies that cannot be met,
        Unsupported for a platform that cannot be assembled here.
        """
        order = _understand(reference, platform)
        return await self._flights.do(f"{reference} {platform}", lambda: self._assemble(order, progress))

    async def _assemble(self, order: _Order, progress: Progress) -> Digest:
        await self._start()
        async with Downloader() as downloader:
            archive = Archive(self._settings, self._cache, order.release)
            progress("archive", f"checking Debian {order.release.version} ({order.release.codename})")
            suites = await archive.suites(downloader)
            known = await self._known(self._memory(order, suites), order.reference)
            if known is not None:
                return known
            try:
                wanted, packages = await self._gather(order, archive, suites, downloader, progress)
            except (DataCorrupt, NotFound) as error:
                if isinstance(error, NotFound) and error.code != ARCHIVE_404:
                    raise
                progress("archive", "the mirror has changed meanwhile, starting again")
                suites = await archive.suites(downloader)
                try:
                    wanted, packages = await self._gather(order, archive, suites, downloader, progress)
                except NotFound as again:
                    if again.code != ARCHIVE_404:
                        raise
                    hint = "the mirror is inconsistent: try again later or choose another one"
                    raise DataCorrupt(again.message, hint=hint, code="mirror-inconsistent") from again
        image = await self._build(order, wanted, packages, suites, progress)
        await asyncio.to_thread(self._remember, self._memory(order, suites), image)
        return image

    async def _gather(
        self,
        order: _Order,
        archive: Archive,
        suites: tuple[VerifiedSuite, ...],
        downloader: Downloader,
        progress: Progress,
    ) -> tuple[list[str], list[Package]]:
        """Choose packages and have them all in the cache."""
        progress("archive", "reading the package indexes")
        index = await archive.index(downloader, suites, order.architecture)
        wanted, packages = await asyncio.to_thread(_choose, order, index, suites)
        await self._debs.fetch(downloader, packages, progress)
        return wanted, packages

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
        self,
        order: _Order,
        wanted: Sequence[str],
        packages: Sequence[Package],
        suites: Sequence[VerifiedSuite],
        progress: Progress,
    ) -> Digest:
        progress("assemble", f"{order.reference.familiar()}: {len(packages)} packages")
        async with self._assembler.opened(packages) as debs:
            newest = self._assembler.newest(debs)
            if order.recipe is not None:
                tree = await asyncio.to_thread(distroless_tree, debs, order.recipe, order.architecture, newest)
                plan = _plan(order, wanted, recipes.execution(order.recipe, debs))
                image = await self._assembler.store_image(tree, plan, newest)
            else:
                sources = [suite.source for suite in suites]
                unpacked = await asyncio.to_thread(
                    debian.unpacked_tree, debs, sources, str(self._settings.keyring), order.architecture
                )
                config = ExecutionConfig(env=[debian.ENVIRONMENT[0]], cmd=["bash"])
                async with self._assembler.configured(unpacked, progress) as tree:
                    await asyncio.to_thread(debian.normalise, tree, newest)
                    image = await self._assembler.store_image(tree, _plan(order, wanted, config), newest)
        progress("assemble", f"{order.reference.familiar()}: {image.hex[:12]}, {tree.size() / 1e6:.1f} MB")
        return image

    def _memory(self, order: _Order, suites: Sequence[VerifiedSuite]) -> Path:
        """Where the image is noted that these very release files give."""
        facts = (
            FORMAT,
            order.reference.path,
            order.reference.tag,
            str(order.platform),
            [(str(suite.source), suite.source.components, suite.digest) for suite in suites],
            self._settings.source_date_epoch,
            str(self._settings.keyring),
        )
        return self._cache / "assembled" / hashlib.sha256(msgspec.json.encode(facts)).hexdigest()

    async def _known(self, path: Path, reference: Reference) -> Digest | None:
        note = await asyncio.to_thread(_read_note, path)
        if note is None:
            return None
        image = Digest.parse(note.image)
        try:
            await self._store.images.tag(image, reference)
        except NotFound:
            return None  # it was removed meanwhile
        return image

    def _remember(self, path: Path, image: Digest) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, msgspec.json.encode(_Remembered(str(image))), durable=False)


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


def _understand(reference: Reference, platform: Platform) -> _Order:
    """Read a reference of the virtual registry; raises NotFound listing what is near, Unsupported."""
    if reference.digest is not None:
        raise NotFound(
            f"{reference.familiar()}: assembled images have no digest to ask for", hint=f"use {reference.name}:12"
        )
    architecture = DEBIAN_ARCHITECTURES.get(platform.architecture)
    if platform.os != "linux" or architecture is None:
        raise Unsupported(f"{reference.familiar()}: Debian has no packages for {platform}")
    if reference.path == "debian":
        release = _release(reference, reference.tag)
        if platform.architecture != Platform.host().architecture:
            raise Unsupported(
                f"{reference.familiar()} for {platform} cannot be configured on {Platform.host()}",
                hint="distroless images can be assembled for any architecture",
            )
        return _Order(reference=reference, platform=platform, release=release, architecture=architecture, recipe=None)
    head, _, rest = reference.path.partition("/")
    version, variant = recipes.parse_tag(reference.tag)
    if head == "deb" and rest:
        recipe = recipes.for_packages(rest.split("/"))
    elif head == "distroless" and rest in recipes.RECIPES:
        recipe = recipes.RECIPES[rest]
    else:
        raise _unknown(reference)
    release = _release(reference, version)
    return _Order(
        reference=reference,
        platform=platform,
        release=release,
        architecture=architecture,
        recipe=replace(recipe, variant=variant),
    )


def _release(reference: Reference, tag: str) -> DebianRelease:
    if tag == "latest":
        return RELEASES[0]
    for release in RELEASES:
        if tag in (release.version, release.codename):
            return release
    names = ", ".join(name for release in RELEASES for name in (release.version, release.codename))
    raise NotFound(
        f"No such image: {reference.familiar()}", hint=f"the tags are latest, {names}", code="catalogue-unknown"
    )


def names() -> list[str]:
    """The repositories of the catalogue, without ``tare.local/deb/…``."""
    return ["debian", *(f"distroless/{name}" for name in recipes.RECIPES)]


def _unknown(reference: Reference) -> NotFound:
    known = [f"{reference.domain}/{name}" for name in names()]
    close = difflib.get_close_matches(reference.name, known, n=1, cutoff=0.6)
    meant = f"did you mean {close[0]}? " if close else ""
    return NotFound(
        f"No such image: {reference.familiar()}",
        hint=f"{meant}there are {', '.join(known)} and {reference.domain}/deb/<package>[/<package>…]",
        code="catalogue-unknown",
    )


def _choose(order: _Order, index: PackageIndex, suites: Sequence[VerifiedSuite]) -> tuple[list[str], list[Package]]:
    if order.recipe is not None:
        wanted = recipes.wanted(order.recipe)
        packages = resolve(index, wanted, recipes.exclusions(order.recipe))
        alone = Exclusions(all_dependencies="only a slice is taken")
        return wanted, packages + resolve(index, order.recipe.only_slices, alone)
    wanted = [*debian.SEED, *(package.name for package in index.notable())]
    if any(suite.source.uri.startswith("https:") for suite in suites):
        wanted.append("ca-certificates")  # else apt-get update inside could trust no mirror
    return wanted, resolve(index, wanted, Exclusions())


def _plan(order: _Order, wanted: Sequence[str], config: ExecutionConfig) -> ImagePlan:
    return ImagePlan(
        reference=order.reference,
        platform=order.platform,
        config=config,
        created_by=f"assemble {order.reference.familiar()} # {' '.join(sorted(set(wanted)))}",
    )
