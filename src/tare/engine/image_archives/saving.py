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

        A repository without a tag stands for all its tags, an identifier for the image without a name. Raises NotFound,
        Conflict for an ambiguous identifier, InvalidArgument, DataCorrupt, before there is an iterator.
        """
        stack = AsyncExitStack()
        try:
            lease = await self._lease(stack)
            saved = await self._find(names)
            for item in saved:
                await self._keep(item.image, platform, lease)
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

    async def _find(self, names: Sequence[str]) -> list[_Saved]:
        found: dict[Digest, _Saved] = {}
        for name in names:
            for image, reference in await self._meant(name):
                saved = found.setdefault(image.id, _Saved(image))
                if reference is not None and reference not in saved.names:
                    saved.names.append(reference)
        return list(found.values())

    async def _meant(self, name: str) -> list[tuple[Image, Reference | None]]:
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
            try:
                return [(await images.resolve(name), reference)]
            except NotFound as error:
                raise NotFound("reference does not exist", hint=f"there is no image {name}") from error
        named = {tag: image for image in await images.list() for tag in image.tags if tag.name == reference.name}
        if not named:
            return [(await images.resolve(name), None)]
        return [(named[tag], tag) for tag in sorted(named, key=str)]

    async def _lease(self, stack: AsyncExitStack) -> str | None:
        """A lease; None on a full disk, where archives are wanted most: then an image that is removed breaks off."""
        try:
            return await stack.enter_async_context(self._store.leases.hold())
        except Exhausted:
            return None

    async def _keep(self, image: Image, platform: Platform | None, lease: str | None) -> None:
        """Let the lease hold what an image is made of. Raises NotFound for another platform, DataCorrupt."""
        own = Platform(image.config.os, image.config.architecture, image.config.variant)
        if platform is not None and not layout.is_for(own, platform):
            raise NotFound(
                f"no suitable export target found for platform {platform}",
                hint=f"the image is for {own}",
                code="platform-missing",
            )
        if lease is not None:
            await self._store.leases.add(lease, "blob", str(image.id))
        for diff_id in image.diff_ids:
            if lease is not None and not await self._store.layers.hold(diff_id, lease):
                raise NotFound(f"No such image: {image.id}")  # it went in between
            path, layer = self._store.layers.path(diff_id), await self._store.layers.get(diff_id)
            if await asyncio.to_thread(_size, path) != layer.size:
                raise _damaged(path)

    async def _files(self, saved: Sequence[_Saved]) -> dict[str, _File]:
        """All members by path, but for the directories."""
        files: dict[str, _File] = {}
        manifests: list[Descriptor] = []
        items: list[dict[str, Any]] = []
        repositories: dict[str, dict[str, str]] = {}
        for item in saved:
            image, created = item.image, _time(item.image)
            layers = []
            for diff_id in image.diff_ids:
                size = (await self._store.layers.get(diff_id)).size
                layers.append(Descriptor(media_type=oci.MEDIA_TYPE_LAYER, digest=str(diff_id), size=size))
                files.setdefault(layout.blob_path(str(diff_id)), _File(size, created, layer=diff_id))
            document = await self._store.content.read(image.id)
            config = Descriptor(media_type=oci.MEDIA_TYPE_CONFIG, digest=str(image.id), size=len(document))
            media_type = oci.MEDIA_TYPE_MANIFEST
            manifest = encode(Manifest(schema_version=2, media_type=media_type, config=config, layers=layers))
            described = Descriptor(media_type=media_type, digest=str(Digest.of(manifest)), size=len(manifest))
            files[layout.blob_path(config.digest)] = _File(len(document), created, document)
            files[layout.blob_path(described.digest)] = _File(len(manifest), 0, manifest)
            manifests += _named(described, item.names)
            items.append(_docker_item(config, layers, item.names))
            for name in item.names if layers else ():
                repositories.setdefault(name.familiar_name, {})[name.tag] = image.diff_ids[-1].hex
        index = Index(schema_version=2, media_type=oci.MEDIA_TYPE_INDEX, manifests=manifests)
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


def _named(manifest: Descriptor, names: Sequence[Reference]) -> list[Descriptor]:
    """The manifest once for each name, or once without any."""
    return [
        Descriptor(
            media_type=manifest.media_type,
            digest=manifest.digest,
            size=manifest.size,
            annotations={layout.CONTAINERD_NAME: str(name), layout.REF_NAME: name.tag},
        )
        for name in names
    ] or [manifest]


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
