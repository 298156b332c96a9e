"""When a registry has images of ``tare.local`` assembled, and what it does when that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from tare.engine import offered_catalogue
from tare.engine.images import Images
from tare.engine.offered_catalogue import OfferedCatalogue
from tare.errors import Conflict, NotFound, Unavailable, Unsupported
from tare.model import Digest, Platform, Reference
from tare.oci.image import ImageConfig
from tare.store.images import Image
from tare.store.store import Store

STATIC = Reference.parse("tare.local/distroless/static:12")
OTHER = Platform("linux", "riscv64")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "data")
    yield opened
    await opened.close()


class Archive:
    """Makes images of nothing, or fails."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.author = "first"

    async def _make(self, platform: Platform, *, tag: Reference | None) -> Image:
        self.asked.append(str(platform))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        config = ImageConfig(architecture=platform.architecture, os=platform.os, author=self.author)
        return await self.store.images.get(await self.store.images.create(config, tag=tag))

    async def resolve_or_pull(self, reference: Reference, platform: Platform, *, refresh: bool) -> Image:
        assert refresh
        return await self._make(platform, tag=reference)

    async def assemble_nameless(self, reference: Reference, platform: Platform, *, lease: str) -> Digest:
        image = await self._make(platform, tag=None)
        await self.store.leases.add(lease, "image", str(image.id))
        return image.id


def catalogue(archive: Archive, *platforms: Platform) -> OfferedCatalogue:
    return OfferedCatalogue(archive.store, cast(Images, archive), platforms)


async def test_it_is_assembled_once_in_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(store)
    offered = catalogue(archive)
    both = await asyncio.gather(offered.get(STATIC, None), offered.get(STATIC, None))
    image = both[0][Platform.host()]
    assert both[1] == {Platform.host(): image} == await offered.get(STATIC, image)
    asked = len(archive.asked)
    assert await offered.get(STATIC, Digest("0" * 64)) == {Platform.host(): image}, "replaced meanwhile"
    await offered.get(STATIC, None)
    assert len(archive.asked) == asked + 2
    monkeypatch.setattr(offered_catalogue, "FRESH_SECONDS", 0.0)
    archive.author = "second"
    assert (await offered.get(STATIC, image))[Platform.host()] != image


async def test_what_is_here_is_served_when_the_archive_is_away(store: Store) -> None:
    archive = Archive(store)
    archive.error = Unavailable("no route")
    offered = catalogue(archive)
    assert await offered.get(STATIC, Digest("0" * 64)) == {Platform.host(): Digest("0" * 64)}
    with pytest.raises(Unavailable):
        await offered.get(STATIC, None)
    archive.error = Conflict("packages contradict each other")
    with pytest.raises(Conflict):
        await offered.get(STATIC, Digest("0" * 64))
    archive.error = Unsupported("Debian has no packages for plan9/amd64")
    with pytest.raises(NotFound) as raised:
        await offered.get(STATIC, None)
    assert raised.value.code == "MANIFEST_UNKNOWN"


async def test_images_for_other_platforms_go_unless_somebody_named_them(store: Store) -> None:
    archive = Archive(store)
    offered = catalogue(archive, Platform.host(), OTHER, Platform("linux", "s390x"))
    images = await offered.get(STATIC, None)
    assert list(images) == [Platform.host(), OTHER, Platform("linux", "s390x")]
    await store.images.tag(images[OTHER], Reference.parse("kept:1"))
    await offered.close()
    assert {image.id for image in await store.images.list()} == {images[Platform.host()], images[OTHER]}
    await offered.close()
