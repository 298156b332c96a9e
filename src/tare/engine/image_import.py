"""``import``: an image with one layer from a root file system's tar."""

from __future__ import annotations

import asyncio
import io
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tare.archive.compression import decompress
from tare.archive.tar_stream import iter_entries
from tare.base.readers import CHUNK, Readable
from tare.build.sources.addresses import parse_http
from tare.build.sources.http import download
from tare.build.sources.limits import SourceLimits
from tare.engine.clock import now
from tare.engine.events import Events
from tare.engine.image_names import check_new_name
from tare.errors import InvalidArgument, Unsupported
from tare.model import Digest, Platform, Reference
from tare.oci.image import ExecutionConfig, History, ImageConfig, RootFS
from tare.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What to make: the image's name, comment, configuration, and the platform that it says it is for."""

    name: Reference | None = None
    message: str = ""
    config: ExecutionConfig = field(default_factory=ExecutionConfig)
    platform: str = ""


class ImageImports:
    """Makes images from root file systems."""

    def __init__(self, *, store: Store, events: Events, scratch: Path, limits: SourceLimits) -> None:
        self._store = store
        self._events = events
        self._scratch = scratch
        self._limits = limits

    async def import_tar(self, stream: Readable, request: ImportRequest, source: str = "-") -> Digest:
        """Make an image from a tar, plain or compressed; its bytes are the layer.

        Raises DataCorrupt for what is no whole tar that can be unpacked, InvalidArgument for name and platform.
        """
        if request.name is not None:
            check_new_name(request.name, "cannot import digest reference")
        platform = Platform.parse(request.platform) if request.platform else Platform.host()
        if platform.os != "linux":
            raise InvalidArgument("operating system is not supported", hint="import an image of linux")
        async with self._store.leases.hold() as lease:
            layer = await self._store.layers.write(lambda sink: _copy_tar(decompress(stream), sink), lease=lease)
            moment = now()
            document = ImageConfig(
                architecture=platform.architecture,
                os=platform.os,
                variant=platform.variant,
                created=moment,
                config=request.config,
                rootfs=RootFS(diff_ids=[str(layer.diff_id)]),
                history=[History(created=moment, comment=request.message or f"Imported from {source}")],
            )
            image = await self._store.images.create(document, tag=request.name)
        labels = request.config.labels or {}
        if request.name is not None:
            self._events.publish("image", "tag", str(image), {**labels, "name": request.name.familiar()})
        self._events.publish("image", "import", str(image), {**labels, "name": str(image)})
        return image

    async def import_url(self, url: str, request: ImportRequest, tell: Callable[[dict[str, Any]], None]) -> Digest:
        """As :meth:`import_tar`, from an http(s) server; ``tell`` gets a message when it has answered.

        Raises NotFound, Unavailable naming address and answer, Exhausted for more than the configured limit.
        """
        scheme, separator, _ = url.partition("://")
        if separator and scheme.lower() not in ("http", "https"):
            raise Unsupported(f"import from {scheme}:// is not possible", hint="use http or https, or send the archive")
        address = parse_http(url if separator else f"http://{url}")
        directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="import-", dir=self._scratch))
        try:
            place = directory / "content"
            await download(
                address, place, self._limits, begun=lambda: tell({"status": f"Downloading from {address.shown}"})
            )
            opened = await asyncio.to_thread(place.open, "rb")
            try:
                return await self.import_tar(opened, request, address.shown)
            finally:
                await asyncio.to_thread(opened.close)
        finally:
            await asyncio.to_thread(shutil.rmtree, directory)


def _copy_tar(source: Readable, sink: BinaryIO) -> None:
    """Copy a tar byte for byte while reading its members; raises DataCorrupt where one cannot be unpacked."""
    reader = io.BufferedReader(_Copying(source, sink), CHUNK)
    for _ in iter_entries(reader):
        pass
    while reader.read(CHUNK):
        pass


class _Copying(io.RawIOBase):
    """Whatever is read of it has been written to ``sink``."""

    def __init__(self, source: Readable, sink: BinaryIO) -> None:
        super().__init__()
        self._source = source
        self._sink = sink

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._source.read(view.nbytes)
        view[: len(data)] = data
        self._sink.write(data)
        return len(data)
