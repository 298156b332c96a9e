"""Save images as archives: an OCI layout with Docker's ``manifest.json`` beside it, as Docker 28 writes it.

Equal images give equal bytes: times are those of the images' configurations, or 0 as Docker has it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tare.archive.entry import Entry, Kind
from tare.archive.tar_writer import BLOCK, member_header
from tare.base.readers import CHUNK
from tare.engine.clock import to_seconds
from tare.engine.events import Events
from tare.errors import DataCorrupt, Exhausted, InvalidArgument, NotFound
from tare.model import Digest, Platform, Reference
from tare.oci import image as oci
from tare.oci import layout
from tare.oci.image import Descriptor, Index, Manifest, encode
from tare.store.images import Image
from tare.store.store import Store

_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'  # with Docker's space
_REPOSITORIES = "repositories"


@dataclass
class _Saved:
    """An image and the names that it is saved under."""

    image: Image
    names: list[Reference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _File:
    """A member: bytes, or a layer of the store; ``time`` in seconds since the epoch."""

    size: int
    time: int
    data: bytes = b""
    layer: Digest | None = None


class ImageSaver:
    """Writes archives of stored images."""

    def __init__(self, store: Store, events: Events) -> None:
        self._store = store
        self._events = events

    async def save(self, names: Sequence[str], *, platform: Platform | None = None) -> AsyncGenerator[bytes, None]:
        """The archive, piece by piece; close the iterator, which keeps the images from going.

        A repository without a tag stands for all its tags, a name for its images of all platforms (or of ``platform``),
        an identifier for the image without a name. Raises NotFound,
        Conflict for an ambiguous identifier, InvalidArgument, DataCorrupt, before there is an iterator.
        """
        stack = AsyncExitStack()
        try:
            lease = await self._lease(stack)
            saved = await self._find(names, platform)
            for item in saved:
                await self._keep(item.image, lease)
            files = await self._files(saved)
        except BaseException:
            await stack.aclose()
            raise
        for item in saved:
            labels = item.image.config.config.labels or {}
            self._events.publish("image", "save", str(item.image.id), {**labels, "name": str(item.image.id)})
        pieces = self._pieces(files, max((_time(item.image) for item in saved), default=0), stack)
        await anext(pieces)  # the iterator has the lease from here on
        return pieces

    async def _find(self, names: Sequence[str], platform: Platform | None) -> list[_Saved]:
        found: dict[Digest, _Saved] = {}
        for name in names:
            several = await self._meant(name)
            meant = [item for item in several if platform is None or item[0].platform.satisfies(platform)]
            if not meant:
                raise NotFound(
                    f"no suitable export target found for platform {platform}",
                    hint=f"{name} is for {', '.join(sorted({str(image.platform) for image, _ in several}))}",
                    code="platform-missing",
                )
            for image, reference in meant:
                saved = found.setdefault(image.id, _Saved(image))
                if reference is not None and reference not in saved.names:
                    saved.names.append(reference)
        return list(found.values())

    async def _meant(self, name: str) -> list[tuple[Image, Reference | None]]:
        """The images that a name stands for: of several platforms all, in the order of these."""
        images = self._store.images
        by_id = name.removeprefix("sha256:")
        if name.startswith("sha256:") or (len(by_id) == 64 and not by_id.strip("0123456789abcdef")):
            return [(await images.resolve(name), None)]
        try:
            reference = Reference.parse(name, default_tag="")
        except InvalidArgument:
            return [(await images.resolve(name), None)]
        if reference.digest is not None:
            return [(await images.resolve(name), None)]
        if reference.tag:
            tags = [reference]
        else:
            tags = sorted({tag for tag, _ in (await images.in_repository(reference.name))[0]}, key=str)
        found = [
            (image, tag)
            for tag in tags
            for image in sorted(await images.named(tag), key=lambda item: (str(item.platform), item.id))
        ]
        if not found and reference.tag:
            raise NotFound("reference does not exist", hint=f"there is no image {name}")
        return [*found] or [(await images.resolve(name), None)]

    async def _lease(self, stack: AsyncExitStack) -> str | None:
        """A lease; None on a full disk, where archives are wanted most: then an image that is removed breaks off."""
        try:
            return await stack.enter_async_context(self._store.leases.hold())
        except Exhausted:
            return None

    async def _keep(self, image: Image, lease: str | None) -> None:
        """Let the lease hold what an image is made of. Raises NotFound, DataCorrupt."""
        if lease is not None:
            await self._store.leases.add(lease, "blob", str(image.id))
        for diff_id in image.diff_ids:
            if lease is not None:
                await self._store.leases.add(lease, "layer", str(diff_id))
            path, layer = self._store.layers.path(diff_id), await self._store.layers.get(diff_id)
            if await asyncio.to_thread(_size, path) != layer.size:
                raise _damaged(path)

    async def _files(self, saved: Sequence[_Saved]) -> dict[str, _File]:
        """All members by path, but for the directories."""
        files: dict[str, _File] = {}
        described: dict[Digest, Descriptor] = {}
        items: list[dict[str, Any]] = []
        repositories: dict[str, dict[str, str]] = {}
        bearers = _bearers(saved)
        for item in saved:
            image, created = item.image, _time(item.image)
            layers = []
            for diff_id in image.diff_ids:
                size = (await self._store.layers.get(diff_id)).size
                layers.append(Descriptor(media_type=oci.MEDIA_TYPE_LAYER, digest=str(diff_id), size=size))
                files.setdefault(layout.blob_path(str(diff_id)), _File(size, created, layer=diff_id))
            document = await self._store.content.read(image.id)
            config = Descriptor(media_type=oci.MEDIA_TYPE_CONFIG, digest=str(image.id), size=len(document))
            manifest = Manifest(schema_version=2, media_type=oci.MEDIA_TYPE_MANIFEST, config=config, layers=layers)
            files[layout.blob_path(config.digest)] = _File(len(document), created, document)
            described[image.id] = _add(files, oci.MEDIA_TYPE_MANIFEST, encode(manifest))
            # Docker's form knows no platforms: there a name stands for the image that is run here.
            names = [name for name in item.names if _preferred(bearers[name]).id == image.id]
            if names or not item.names:
                items.append(_docker_item(config, layers, names))
            for name in names if layers else ():
                repositories.setdefault(name.familiar_name, {})[name.tag] = image.diff_ids[-1].hex
        index = _index(saved, bearers, described, files)
        documents = {
            layout.INDEX_FILE: encode(index),
            layout.DOCKER_MANIFEST_FILE: _json(items or None),
            layout.LAYOUT_FILE: _LAYOUT,
        }
        if repositories:
            ordered = {name: dict(sorted(tags.items())) for name, tags in sorted(repositories.items())}
            documents[_REPOSITORIES] = _json(ordered)
        return files | {name: _File(len(data), 0, data) for name, data in documents.items()}

    async def _pieces(
        self, files: Mapping[str, _File], directory_time: int, stack: AsyncExitStack
    ) -> AsyncGenerator[bytes, None]:
        async with stack:
            yield b""
            pending = b""
            blobs = any(name.startswith(layout.BLOBS) for name in files)
            for name in ("blobs", layout.BLOBS) if blobs else ():
                pending += member_header(Entry(path=name, kind=Kind.DIRECTORY, mode=0o755, mtime=directory_time))
            for name in sorted(files):
                file = files[name]
                pending += member_header(Entry(path=name, kind=Kind.FILE, mode=0o644, mtime=file.time, size=file.size))
                if file.layer is not None:
                    yield pending
                    async for piece in self._layer(file.layer, file.size):
                        yield piece
                    pending = b""
                pending += file.data + bytes(-file.size % BLOCK)
            yield pending + bytes(2 * BLOCK)

    async def _layer(self, diff_id: Digest, size: int) -> AsyncGenerator[bytes, None]:
        path = self._store.layers.path(diff_id)
        fd = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            left = size
            while left:
                data = await asyncio.to_thread(os.read, fd, min(CHUNK, left))
                if not data:
                    raise _damaged(path)
                left -= len(data)
                yield data
        finally:
            os.close(fd)


def _size(path: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _damaged(path: Path) -> DataCorrupt:
    return DataCorrupt(
        f"{path}: the layer is not there or is not whole", hint="get the image again", code="layer-damaged"
    )


def _time(image: Image) -> int:
    """Seconds since the epoch at which the image was made; 0 where nobody says."""
    return max(int(to_seconds(image.config.created or "")), 0)


def _bearers(saved: Sequence[_Saved]) -> dict[Reference, list[Image]]:
    """The images that have a name, one for each platform, by name."""
    found: dict[Reference, list[Image]] = {}
    for item in saved:
        for name in item.names:
            found.setdefault(name, []).append(item.image)
    return found


def _preferred(images: Sequence[Image]) -> Image:
    """The image for this machine, else the first."""
    return next((image for image in images if image.platform.satisfies(Platform.host())), images[0])


def _add(files: dict[str, _File], media_type: str, document: bytes) -> Descriptor:
    """Add a manifest or index; Docker gives these no time."""
    digest = str(Digest.of(document))
    files[layout.blob_path(digest)] = _File(len(document), 0, document)
    return Descriptor(media_type=media_type, digest=digest, size=len(document))


def _index(
    saved: Sequence[_Saved],
    bearers: Mapping[Reference, Sequence[Image]],
    described: Mapping[Digest, Descriptor],
    files: dict[str, _File],
) -> Index:
    """``index.json``: each name with its manifest, or with an index of several, which is added to the files."""
    entries: list[Descriptor] = []
    for item in saved:
        if not item.names:
            entries.append(described[item.image.id])
        for name in item.names:
            images = bearers[name]
            if len(images) == 1:
                entries.append(_named(described[item.image.id], name))
            elif images[0] is item.image:
                manifests = [_with_platform(described[image.id], image.platform) for image in images]
                inner = Index(schema_version=2, media_type=oci.MEDIA_TYPE_INDEX, manifests=manifests)
                entries.append(_named(_add(files, oci.MEDIA_TYPE_INDEX, encode(inner)), name))
    return Index(schema_version=2, media_type=oci.MEDIA_TYPE_INDEX, manifests=entries)


def _named(item: Descriptor, name: Reference) -> Descriptor:
    annotations = {layout.CONTAINERD_NAME: str(name), layout.REF_NAME: name.tag}
    return msgspec.structs.replace(item, annotations=annotations)


def _with_platform(item: Descriptor, platform: Platform) -> Descriptor:
    members = {"architecture": platform.architecture, "os": platform.os, "variant": platform.variant}
    return msgspec.structs.replace(item, platform={key: value for key, value in members.items() if value})


def _docker_item(config: Descriptor, layers: Sequence[Descriptor], names: Sequence[Reference]) -> dict[str, Any]:
    """One image of ``manifest.json``, its members in Docker's order."""
    sources = {
        item.digest: {"mediaType": item.media_type, "size": item.size, "digest": item.digest}
        for item in sorted(layers, key=lambda item: item.digest)
    }
    return {
        "Config": layout.blob_path(config.digest),
        "RepoTags": [name.familiar() for name in names] or None,
        "Layers": [layout.blob_path(item.digest) for item in layers],
        "LayerSources": sources,
    }


def _json(document: object) -> bytes:
    """As Go's encoder writes it, with a line end."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
