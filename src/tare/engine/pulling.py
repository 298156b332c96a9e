"""Pulling images: manifest, configuration, the layers that are not here, and at last the image with its names.

Nothing that was pulled has a name, or counts as an image, before all of it is here and verified: image, tag and digest
are written in one transaction. What a pull that fails has downloaded stays in the cache of downloads; the next one goes
on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import msgspec

from tare.archive.expansion import ExpansionLimits
from tare.base.locks import KeyedLocks
from tare.base.shielding import finish
from tare.base.single_flight import SingleFlight
from tare.base.together import together
from tare.engine.events import Events
from tare.engine.progress import Tell, Transfer, transfer_message
from tare.errors import DataCorrupt, InvalidArgument, NotFound, Unsupported
from tare.model import Digest, Platform, Reference
from tare.oci.image import Descriptor, ImageConfig, Index, Manifest
from tare.registry.client import RegistryClient
from tare.registry.credentials import Credentials
from tare.registry.manifests import RawManifest, check_image, choose, parse
from tare.registry.repository import Repository
from tare.store.images import Image, KnownAs
from tare.store.layer_blobs import LayerBlob
from tare.store.store import Store

AT_ONCE = 4  # downloads; the others are told to wait
_UNPACKED_AT_ONCE = 2
_FRESH_SECONDS = 60.0  # a download as young as that may be one that is looked at
_DEPTH = 8  # indexes in indexes
_CONFIG_LIMIT = 8 << 20  # bytes of a configuration


@dataclass(frozen=True, slots=True)
class _Job:
    """One image that is pulled."""

    repository: Repository
    reference: Reference
    known_as: KnownAs
    lease: str
    tell: Tell

    @property
    def tag(self) -> Reference | None:
        """The name that the image gets; none where it was asked for by its digest."""
        return None if self.reference.digest is not None else self.reference


class _Layers:
    """The layers that are fetched right now, each once however many pulls want it."""

    def __init__(self, store: Store, limits: ExpansionLimits) -> None:
        self._store = store
        self._limits = limits
        self._flights: SingleFlight[None] = SingleFlight()
        self._transfers: dict[str, tuple[Transfer, int]] = {}
        self._unpacking = asyncio.Semaphore(_UNPACKED_AT_ONCE)
        self._blobs = KeyedLocks()

    async def get(self, job: _Job, blob: Descriptor, diff_id: Digest) -> None:
        """Have the layer, held by the job's lease. Raises what the registry says, DataCorrupt, Exhausted."""
        key = f"{job.reference.name} {blob.digest} {diff_id}"
        async with self._transfer(key, blob) as transfer:
            with transfer.told(job.tell):
                while not await self._store.layers.hold_whole(diff_id, job.lease):
                    await self._flights.do(key, lambda: self._fetch(job.repository, blob, diff_id, transfer))
        job.tell(transfer_message(short(blob.digest), "Pull complete"))

    async def forget(self, repository: Repository, digest: str) -> None:
        """The download is not needed any more, as its image is complete."""
        async with self._blobs.hold(digest):
            await repository.discard(Digest.parse(digest))

    async def _fetch(self, repository: Repository, blob: Descriptor, diff_id: Digest, transfer: Transfer) -> None:
        loop = asyncio.get_running_loop()

        def unpacked(count: int) -> None:
            loop.call_soon_threadsafe(transfer.move, "Extracting", count, blob.size)

        async with self._blobs.hold(blob.digest), self._store.leases.hold() as lease:
            if await self._store.layers.hold_whole(diff_id, lease):
                return
            path = await repository.download(blob, lambda count: transfer.move("Downloading", count, blob.size))
            transfer.say("Verifying Checksum")
            transfer.say("Download complete")
            async with self._unpacking:
                try:
                    await self._store.layers.import_compressed(
                        path, diff_id, self._limits, lease=lease, observe=unpacked
                    )
                except (DataCorrupt, InvalidArgument):
                    await repository.discard(Digest.parse(blob.digest))  # no attempt would be better
                    raise
            await self._store.layer_blobs.add((diff_id, blob_of(blob, repository.name.name)))

    @asynccontextmanager
    async def _transfer(self, key: str, blob: Descriptor) -> AsyncIterator[Transfer]:
        transfer, users = self._transfers.get(key) or (Transfer(short(blob.digest)), 0)
        self._transfers[key] = transfer, users + 1
        try:
            yield transfer
        finally:
            transfer, users = self._transfers.pop(key)
            if users > 1:
                self._transfers[key] = transfer, users - 1


class Pulls:
    """Gets images from registries."""

    def __init__(self, *, store: Store, registries: RegistryClient, events: Events, limits: ExpansionLimits) -> None:
        self._store = store
        self._registries = registries
        self._events = events
        self._layers = _Layers(store, limits)
        self._running = 0

    async def pull(
        self,
        reference: Reference,
        platform: Platform | None = None,
        *,
        credentials: Credentials | None = None,
        tell: Tell = lambda _: None,
    ) -> Image:
        """Get one image, for ``platform`` or this machine's; ``tell`` is told Docker's progress messages.

        Raises NotFound, Unauthorized, Forbidden, Unavailable in the registry's words, DataCorrupt for what does not
        match its digest, Unsupported for what is no image for Linux, Exhausted. The store is then as it was.
        """
        if reference.digest is not None:
            reference = replace(reference, tag="")  # the digest decides, as in Docker
        repository = self._registries.repository(reference, credentials)
        image, news = await self._one(repository, reference, platform, tell)
        tell({"status": _conclusion(reference.familiar(), news=news)})
        if platform is not None and not image.platform.satisfies(platform):
            tell({"status": f"WARNING: {mismatch(reference, image, platform)}"})
        return image

    async def pull_all(
        self,
        reference: Reference,
        platform: Platform | None = None,
        *,
        credentials: Credentials | None = None,
        tell: Tell = lambda _: None,
    ) -> list[Image]:
        """Get the images of all tags of a repository. Raises as :meth:`pull`; what was complete by then stays."""
        repository = self._registries.repository(reference, credentials)
        images, news = [], False
        for tag in await repository.tags():
            image, is_new = await self._one(repository, reference.with_tag(tag), platform, tell)
            images.append(image)
            news = news or is_new
        tell({"status": _conclusion(reference.familiar_name, news=news)})
        return images

    async def remove_downloads(self) -> int:
        """Delete what broken pulls have downloaded, unless one runs; returns the bytes that it had."""
        return 0 if self._running else await self._registries.downloads.remove_stale(_FRESH_SECONDS)

    async def _one(
        self, repository: Repository, reference: Reference, platform: Platform | None, tell: Tell
    ) -> tuple[Image, bool]:
        """The image, and whether the name stands for something new."""
        top = await repository.manifest(str(reference.digest or reference.tag))
        tell({"status": f"Pulling from {reference.path}", "id": reference.tag or reference.familiar()})
        async with self._nothing_half_made(), self._store.leases.hold() as lease:
            raw, manifest = await manifest_of(repository, top, platform or Platform.host())
            config = Digest.parse(manifest.config.digest)
            known_as = KnownAs(repository=reference.name, digest=top.digest, manifest=raw.digest)
            job = _Job(repository, reference, known_as, lease, tell)
            is_new = not await self._is_named(reference, config)
            for document in {top.digest: top, raw.digest: raw}.values():
                await self._store.content.write(document.data, document.media_type, lease)
            if not (await self._name_known(job, config) and await self._store.is_whole(config)):
                await self._create(job, manifest)
            image = await self._store.images.get(config)
            # what was not transferred is the registry's word only
            forms = zip(image.diff_ids, manifest.layers, strict=False)
            await self._store.layer_blobs.confirm(
                *((diff_id, blob_of(blob, reference.name)) for diff_id, blob in forms)
            )
        tell({"status": f"Digest: {top.digest}"})
        labels = image.config.config.labels or {}
        self._events.publish("image", "pull", reference.familiar(), {**labels, "name": reference.familiar_name})
        return image, is_new

    @asynccontextmanager
    async def _nothing_half_made(self) -> AsyncIterator[None]:
        """What was stored goes again when the rest cannot be had."""
        self._running += 1
        try:
            yield
        except BaseException:
            await finish(self._store.collect(), what="delete what a pull has left")
            raise
        finally:
            self._running -= 1

    async def _is_named(self, reference: Reference, image: Digest) -> bool:
        """Whether the name stands for this image by now, for others beside it or not."""
        try:
            found = await self._store.images.get(image)
        except (NotFound, DataCorrupt):  # a damaged image is one that the pull heals
            return False
        return reference in (*found.tags, *found.digests)

    async def _name_known(self, job: _Job, image: Digest) -> bool:
        """Name an image that is here already; False where it is not."""
        await self._store.leases.add(job.lease, "image", str(image))
        try:
            await self._store.images.know(image, job.known_as, tag=job.tag)
        except NotFound:
            return False
        return True

    async def _create(self, job: _Job, manifest: Manifest) -> None:
        document, config = await self._configuration(job, manifest)
        diff_ids = [Digest.parse(text) for text in config.rootfs.diff_ids]
        layers = list(zip(diff_ids, manifest.layers, strict=True))
        await self._get_layers(job, layers)
        await self._store.images.create_from(document, tag=job.tag, known_as=job.known_as)
        for digest in {blob.digest for blob in (manifest.config, *manifest.layers)}:
            await self._layers.forget(job.repository, digest)

    async def _get_layers(self, job: _Job, layers: list[tuple[Digest, Descriptor]]) -> None:
        missing: dict[Digest, Descriptor] = {}
        for diff_id, blob in layers:
            if await self._store.layers.hold_whole(diff_id, job.lease):
                job.tell(transfer_message(short(blob.digest), "Already exists"))
            elif diff_id not in missing:
                missing[diff_id] = blob
                job.tell(transfer_message(short(blob.digest), "Pulling fs layer"))
        for blob in [*missing.values()][AT_ONCE:]:
            job.tell(transfer_message(short(blob.digest), "Waiting"))
        await together(*(self._layers.get(job, blob, diff_id) for diff_id, blob in missing.items()))

    async def _configuration(self, job: _Job, manifest: Manifest) -> tuple[bytes, ImageConfig]:
        """The configuration's bytes and content. Raises DataCorrupt, Unsupported."""
        what = f"{job.known_as.repository}@{job.known_as.manifest}"
        if manifest.config.size > _CONFIG_LIMIT:
            raise DataCorrupt(
                f"{what}: the configuration has {manifest.config.size} bytes, at most {_CONFIG_LIMIT} are read",
                code="config-size",
            )
        path = await job.repository.download(manifest.config, lambda _: None)
        document = await asyncio.to_thread(path.read_bytes)
        try:
            config = msgspec.json.decode(document, type=ImageConfig)
            diff_ids = [Digest.parse(text) for text in config.rootfs.diff_ids]
        except (msgspec.DecodeError, UnicodeDecodeError, InvalidArgument) as error:
            raise DataCorrupt(f"{what}: invalid image configuration: {error}", code="config-invalid") from error
        if config.os not in ("", "linux"):
            raise Unsupported(
                f'image operating system "{config.os}" cannot be used on this platform: operating system is not '
                "supported",
                code="image-os",
            )
        if len(diff_ids) != len(manifest.layers):
            raise DataCorrupt(
                f"{what}: layers from manifest don't match image configuration: {len(manifest.layers)} of them, "
                f"{len(diff_ids)} in the configuration",
                hint="whoever made the image has to make it again",
                code="layers-differ",
            )
        return document, config


async def manifest_of(repository: Repository, top: RawManifest, platform: Platform) -> tuple[RawManifest, Manifest]:
    """The image's manifest: what the registry answered with, or the one for the platform of an index.

    Raises NotFound for a platform that the index has not, Unsupported for what is no image, DataCorrupt.
    """
    raw, document = top, parse(top)
    for _ in range(_DEPTH):
        if not isinstance(document, Index):
            break
        raw = await repository.manifest(choose(document, platform).digest)
        document = parse(raw)
    if isinstance(document, Index):
        raise DataCorrupt(f"{top.digest}: more than {_DEPTH} indexes in each other", code="manifest-malformed")
    check_image(document)
    return raw, document


def blob_of(blob: Descriptor, repository: str) -> LayerBlob:
    """A layer of a manifest as the store notes it."""
    return LayerBlob(
        digest=Digest.parse(blob.digest), size=blob.size, media_type=blob.media_type, repository=repository
    )


def short(digest: str) -> str:
    """How progress messages call a blob."""
    return digest.partition(":")[2][:12]


def mismatch(reference: Reference, image: Image, platform: Platform) -> str:
    """Docker's words for an image for another platform than the one that was asked for."""
    has = image.platform
    return (
        f"image with reference {reference.familiar()} was found but its platform ({has}) does not match the specified "
        f"platform ({platform})"
    )


def _conclusion(name: str, *, news: bool) -> str:
    return f"Status: Downloaded newer image for {name}" if news else f"Status: Image is up to date for {name}"
