"""Pushing images: what the registry has is named, what a neighbour repository has is mounted, the rest is uploaded.

A layer is transferred as gzip that is the same each time, so that its digest is known before and the registry can be
asked for it. The manifest is the one that the image was pulled with wherever all of its blobs can be had at the target:
the image keeps its digest then. Else it is made anew, in Docker's form (schema 2), or in OCI's where the image came so.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import BinaryIO

from tare.archive.compression import Compression
from tare.base.locks import KeyedLocks
from tare.base.together import together
from tare.engine.events import Events
from tare.engine.manifest_forms import COMPRESSIONS, GZIP_LAYER, make_index, make_manifest
from tare.engine.progress import Tell, Transfer, transfer_message
from tare.engine.pulling import mismatch, short
from tare.errors import NotFound, Unauthorized
from tare.model import Digest, Platform, Reference
from tare.oci.image import Index, Manifest
from tare.registry.authentication import NO_BASIC
from tare.registry.client import RegistryClient
from tare.registry.credentials import Credentials
from tare.registry.manifests import RawManifest, parse
from tare.registry.repository import Repository
from tare.store.images import Image, KnownAs
from tare.store.layer_blobs import LayerBlob
from tare.store.store import Store

AT_ONCE = 5  # layers, as in Docker; the others are told to wait
_COMPRESSED_AT_ONCE = 2
_ASKED_FOR = 4  # known forms of a layer that a registry is asked for


@dataclass(frozen=True, slots=True)
class _Source:
    """A blob that is uploaded."""

    digest: Digest
    size: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class _Job:
    """One tag that is pushed."""

    repository: Repository
    name: Reference
    tell: Tell


class Pushes:
    """Puts images into registries."""

    def __init__(self, *, store: Store, registries: RegistryClient, events: Events) -> None:
        self._store = store
        self._registries = registries
        self._events = events
        self._compressing = asyncio.Semaphore(_COMPRESSED_AT_ONCE)
        self._locks = KeyedLocks()

    async def push(
        self,
        reference: Reference,
        platform: Platform | None = None,
        *,
        credentials: Credentials | None = None,
        tell: Tell = lambda _: None,
    ) -> None:
        """Push one tag, or all tags of the repository where ``reference`` has none.

        ``tell`` is told Docker's progress messages. Raises NotFound for a name that no image has or an image for
        another platform, Unauthorized, Forbidden, Unavailable in the registry's words, DataCorrupt for a damaged layer.
        """
        tell({"status": f"The push refers to repository [{reference.name}]"})
        tags, known = await self._store.images.in_repository(reference.name)
        if not known:
            raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
        wanted: dict[Reference, list[Image]] = {}
        for name, image_id in tags:
            if reference.tag in ("", name.tag):
                wanted.setdefault(name, []).append(await self._store.images.get(image_id))
        if not wanted:
            raise NotFound(f"tag does not exist: {reference.familiar()}")
        repository = self._registries.repository(reference, credentials, push=True)
        try:
            for name, images in wanted.items():
                await self._tag(_Job(repository, name, tell), _chosen(name, images, platform))
        except Unauthorized as error:
            if error.code != NO_BASIC:
                raise
            words = "no basic auth credentials"  # of a push Docker does not say at which request
            raise Unauthorized(words, hint=error.hint, code=error.code) from error

    async def _tag(self, job: _Job, images: Sequence[Image]) -> None:
        """Push what a tag stands for: an image, or images for several platforms and an index of them."""
        name = job.name
        async with self._store.leases.hold() as lease:
            manifests = [await self._image(job, image, lease) for image in images]
            top = manifests[0]
            if len(images) > 1:
                for raw in manifests:
                    await job.repository.put_manifest(str(raw.digest), raw)
                top = await self._index(images, manifests)
            await job.repository.put_manifest(name.tag, top)
            await self._store.content.write(top.data, top.media_type, lease)
            for image, raw in zip(images, manifests, strict=True):
                known_as = KnownAs(repository=name.name, digest=top.digest, manifest=raw.digest)
                with suppress(NotFound):  # somebody removed the image meanwhile
                    await self._store.images.know(image.id, known_as)
        job.tell({"status": f"{name.tag}: digest: {top.digest} size: {len(top.data)}"})
        job.tell({"progressDetail": {}, "aux": {"Tag": name.tag, "Digest": str(top.digest), "Size": len(top.data)}})
        labels = images[0].config.config.labels or {}
        self._events.publish("image", "push", name.familiar(), {**labels, "name": name.familiar_name})

    async def _image(self, job: _Job, image: Image, lease: str) -> RawManifest:
        """Have everything at the registry that the image's manifest names; returns that manifest."""
        await self._hold(image, lease)
        template = await self._template(image, job.name)
        blobs = await self._layers(job, image, template)
        raw = make_manifest(image.id, await self._config(job.repository, image), blobs, template)
        await self._store.content.write(raw.data, raw.media_type, lease)
        return raw

    async def _index(self, images: Sequence[Image], manifests: Sequence[RawManifest]) -> RawManifest:
        """The index that the images came with, where it has these manifests and no other; else a new one."""
        for one in await self._store.images.known_as(images[0].id):
            media_type, data = await self._store.content.typed(one.digest)
            raw = RawManifest(media_type=media_type, digest=one.digest, data=data)
            document = parse(raw)
            named = {entry.digest for entry in document.manifests} if isinstance(document, Index) else set()
            if named == {str(known.digest) for known in manifests}:
                return raw
        return make_index([(image.platform, raw) for image, raw in zip(images, manifests, strict=True)])

    async def _hold(self, image: Image, lease: str) -> None:
        await self._store.leases.add(lease, "image", str(image.id))
        await self._store.leases.add(lease, "blob", str(image.id))
        for diff_id in image.diff_ids:
            if not await self._store.layers.hold(diff_id, lease):
                raise NotFound(f"no such layer: {diff_id}")

    async def _template(self, image: Image, name: Reference) -> tuple[RawManifest, Manifest] | None:
        """The manifest that the image came with: the target's own, else the youngest."""
        known = await self._store.images.known_as(image.id)
        for one in sorted(known, key=lambda known_as: known_as.repository != name.name):
            media_type, data = await self._store.content.typed(one.manifest)
            raw = RawManifest(media_type=media_type, digest=one.manifest, data=data)
            manifest = parse(raw)
            if not isinstance(manifest, Manifest):
                continue
            if manifest.config.digest == str(image.id) and len(manifest.layers) == len(image.diff_ids):
                return raw, manifest
        return None

    async def _layers(self, job: _Job, image: Image, template: tuple[RawManifest, Manifest] | None) -> list[LayerBlob]:
        """The layers' forms at the registry, bottom first; all of them are there then."""
        wanted: dict[Digest, str] = {}
        for number, diff_id in enumerate(image.diff_ids):
            wanted.setdefault(diff_id, template[1].layers[number].digest if template is not None else "")
        order = list(reversed(wanted))  # the top one first, as in Docker
        for diff_id in order:
            job.tell(transfer_message(short(str(diff_id)), "Preparing"))
        for diff_id in order[AT_ONCE:]:
            job.tell(transfer_message(short(str(diff_id)), "Waiting"))
        places = asyncio.Semaphore(AT_ONCE)

        async def one(diff_id: Digest) -> LayerBlob:
            async with places, self._locks.hold(f"{job.name.name} {diff_id}"):
                return await self._layer(job, diff_id, wanted[diff_id])

        found = await together(*(one(diff_id) for diff_id in order))
        by_layer = dict(zip(order, found, strict=True))
        return [by_layer[diff_id] for diff_id in image.diff_ids]

    async def _layer(self, job: _Job, diff_id: Digest, preferred: str) -> LayerBlob:
        repository, name = job.repository, job.name
        known = _ordered(await self._store.layer_blobs.of_layer(diff_id), name, preferred)
        transfer = Transfer(short(str(diff_id)))
        with transfer.told(job.tell):
            for blob in _forms(known):
                if await repository.has_blob(blob.digest) is not None:
                    transfer.say("Layer already exists")
                    return await self._note(diff_id, blob, name)
            for blob in known:
                origin = Reference.parse(blob.repository)
                if blob.repository == name.name:
                    await self._store.layer_blobs.forget(diff_id, blob)
                elif origin.domain == name.domain and await repository.mount_blob(blob.digest, origin.path):
                    transfer.say(f"Mounted from {origin.path}")
                    return await self._note(diff_id, blob, name)
            return await self._note(diff_id, await self._upload(job, diff_id, transfer), name)

    async def _upload(self, job: _Job, diff_id: Digest, transfer: Transfer) -> LayerBlob:
        loop = asyncio.get_running_loop()
        total = (await self._store.layers.get(diff_id)).size

        def compressed(count: int) -> None:
            loop.call_soon_threadsafe(transfer.move, "Preparing", count, total)

        async with AsyncExitStack() as stack:
            async with self._compressing:
                packing = self._store.layers.compressed(diff_id, Compression.GZIP, compressed)
                staged = await stack.enter_async_context(packing)
            blob = LayerBlob(
                digest=staged.digest,
                size=staged.size,
                media_type=GZIP_LAYER,
                repository=job.name.name,
            )
            if await job.repository.has_blob(blob.digest) is not None:
                transfer.say("Layer already exists")
                return blob
            source = _Source(digest=blob.digest, size=blob.size, open=lambda: staged.path.open("rb"))
            await job.repository.upload_blob(source, lambda count: transfer.move("Pushing", count, blob.size))
            transfer.say("Pushed")
            return blob

    async def _note(self, diff_id: Digest, blob: LayerBlob, name: Reference) -> LayerBlob:
        here = LayerBlob(digest=blob.digest, size=blob.size, media_type=blob.media_type, repository=name.name)
        await self._store.layer_blobs.add((diff_id, here))
        return here

    async def _config(self, repository: Repository, image: Image) -> int:
        """Have the configuration at the registry; returns its bytes."""
        document = await self._store.content.read(image.id)
        if await repository.has_blob(image.id) is None:
            source = _Source(digest=image.id, size=len(document), open=lambda: io.BytesIO(document))
            await repository.upload_blob(source, lambda _: None)
        return len(document)


def _chosen(name: Reference, images: Sequence[Image], platform: Platform | None) -> Sequence[Image]:
    """The images that a name stands for, or the one for a platform. Raises NotFound in Docker's words."""
    if platform is None:
        return sorted(images, key=lambda image: str(image.platform))
    chosen = [image for image in images if image.platform.satisfies(platform)]
    if not chosen:
        raise NotFound(mismatch(name, images[0], platform))
    return chosen[:1]


def _ordered(known: Sequence[LayerBlob], name: Reference, preferred: str) -> list[LayerBlob]:
    """Where the layer was seen: the preferred form first, then what the target, its registry and others have."""

    def rank(blob: LayerBlob) -> tuple[bool, bool, bool]:
        domain = Reference.parse(blob.repository).domain
        return str(blob.digest) != preferred, blob.repository != name.name, domain != name.domain

    return sorted((blob for blob in known if blob.media_type in COMPRESSIONS), key=rank)[:_ASKED_FOR]


def _forms(known: Sequence[LayerBlob]) -> list[LayerBlob]:
    """Each form once."""
    forms: dict[Digest, LayerBlob] = {}
    for blob in known:
        forms.setdefault(blob.digest, blob)
    return [*forms.values()]
