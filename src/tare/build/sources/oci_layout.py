"""Images in a directory: the OCI image layout (image-spec 1.1, image-layout.md)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from tare.archive.compression import decompress
from tare.archive.expansion import Counted
from tare.base.shielding import to_end
from tare.build.sources.archive import unpacked
from tare.build.sources.limits import SourceLimits
from tare.errors import DataCorrupt, InvalidArgument, NotFound
from tare.model import Digest, Platform
from tare.oci import layout
from tare.oci.image import Descriptor, ImageConfig, Index, Manifest
from tare.store.images import Image
from tare.store.store import Store

_DEFAULT_TAG = "latest"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LayoutAddress:
    """``oci-layout://DIRECTORY[:TAG][@DIGEST]``; the digest decides where both are given."""

    directory: Path
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> LayoutAddress:
        """Read what follows ``oci-layout://``. Raises InvalidArgument for a relative directory or a bad digest."""
        rest, _, digest = text.partition("@")
        directory, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            directory, tag = rest, ""
        if digest:
            Digest.parse(digest)
        if not directory.startswith("/"):
            raise InvalidArgument(f"oci-layout://{text}: expected an absolute directory on the engine's host")
        return cls(Path(directory), tag, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"oci-layout://{self.directory}{tag}" + (f"@{self.digest}" if self.digest else "")


async def load_layout(
    address: LayoutAddress, platform: Platform, store: Store, limits: SourceLimits, lease: str
) -> Image:
    """The image, its layers in the store and held by ``lease``; it gets no name there.

    Raises NotFound (directory, tag, digest, platform), DataCorrupt for what does not match its digest.
    """
    config, blobs = await asyncio.to_thread(_read, address, platform)
    size = 0
    for text, blob in zip(config.rootfs.diff_ids, blobs, strict=True):
        size += await _layer(Digest.parse(text), _Blob(blob, address, limits), store, lease)
    document = msgspec.json.encode(config)
    return Image(id=Digest.of(document), config=config, tags=(), size=size, created=0.0)


@dataclass(frozen=True, slots=True)
class _Blob:
    file: Path
    address: LayoutAddress
    limits: SourceLimits

    def open(self) -> BinaryIO:
        try:
            return self.file.open("rb")
        except OSError as error:
            raise _missing(self.file, self.address) from error


async def _layer(diff_id: Digest, blob: _Blob, store: Store, lease: str) -> int:
    """Have the layer in the store; returns its bytes."""
    if await store.layers.hold_whole(diff_id, lease):
        layer = await store.layers.get(diff_id)
    else:
        stream = await asyncio.to_thread(blob.open)
        try:
            compressed = Counted(stream)
            source = await asyncio.to_thread(decompress, compressed)
            within = unpacked(source, compressed, blob.limits, str(blob.address))
            layer = await to_end(store.layers.import_stream(within, diff_id, lease=lease))
        finally:
            stream.close()
    return layer.size


def _missing(blob: Path, address: LayoutAddress) -> NotFound:
    return NotFound(f"{address}: {blob}: no such blob", hint="the layout is incomplete: write it again")


def _read(address: LayoutAddress, platform: Platform) -> tuple[ImageConfig, list[Path]]:
    """The configuration and the files of the layers."""
    top = _index(address)
    wanted = _find(top, address)
    for _ in range(layout.DEPTH):
        if wanted.media_type not in layout.INDEX_TYPES:
            break
        inner = _decode(_blob(wanted, address), Index, address)
        wanted = _for_platform(inner, platform, address)
    manifest = _decode(_blob(wanted, address), Manifest, address)
    config = _decode(_blob(manifest.config, address), ImageConfig, address)
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        count = len(config.rootfs.diff_ids)
        raise DataCorrupt(f"{address}: {len(manifest.layers)} layers, but the configuration names {count}")
    return config, [_path(layer, address) for layer in manifest.layers]


def _index(address: LayoutAddress) -> Index:
    file = address.directory / layout.INDEX_FILE
    try:
        with file.open("rb") as stream:
            data = stream.read(layout.DOCUMENT_LIMIT)
    except OSError as error:
        raise NotFound(
            f"{address}: {file}: {error.strerror}",
            hint="name a directory with an OCI image layout, as --output type=oci,tar=false writes it",
            code="layout-missing",
        ) from error
    return _decode(data, Index, address)


def _find(index: Index, address: LayoutAddress) -> Descriptor:
    """The manifest that is meant: by digest, by name, else the only one there is (as buildx does)."""
    if address.digest:
        for item in index.manifests:
            if item.digest == address.digest:
                return item
        return Descriptor(media_type="", digest=address.digest, size=layout.DOCUMENT_LIMIT)
    tag = address.tag or _DEFAULT_TAG
    for item in index.manifests:
        name = (item.annotations or {}).get(layout.REF_NAME, "")
        if tag in (name, name.rpartition(":")[2]):
            return item
    if len(index.manifests) == 1:
        return index.manifests[0]
    names = sorted((item.annotations or {}).get(layout.REF_NAME, item.digest) for item in index.manifests)
    raise NotFound(f"{address}: no image {tag!r}", hint=f"there are {', '.join(names) or 'none'}", code="layout-tag")


def _for_platform(index: Index, platform: Platform, address: LayoutAddress) -> Descriptor:
    found, _ = layout.choose(index.manifests, platform)
    if found is None:
        raise NotFound(f"{address}: no image for {platform}", hint="build for another platform", code="layout-platform")
    return found


def _path(item: Descriptor, address: LayoutAddress) -> Path:
    return address.directory / layout.blob_path(str(Digest.parse(item.digest)))


def _blob(item: Descriptor, address: LayoutAddress) -> bytes:
    """A document, checked against its digest."""
    path = _path(item, address)
    try:
        with path.open("rb") as stream:
            data = stream.read(layout.DOCUMENT_LIMIT + 1)
    except OSError as error:
        raise _missing(path, address) from error
    if len(data) > layout.DOCUMENT_LIMIT or str(Digest.of(data)) != item.digest:
        raise DataCorrupt(f"{address}: {path} does not match its digest", hint="write the layout again")
    return data


def _decode(data: bytes, kind: type[T], address: LayoutAddress) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise DataCorrupt(f"{address}: not an image document: {error}", hint="write the layout again") from error
