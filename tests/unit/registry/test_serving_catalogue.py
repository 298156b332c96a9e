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
        self.errors: dict[Platform, Exception] = {}
        self.author = "first"

    async def resolve_or_pull(self, reference: Reference, platform: Platform, *, refresh: bool) -> Image:
        assert refresh
        self.asked.append(str(platform))
        await asyncio.sleep(0)
        if platform in self.errors:
            raise self.errors[platform]
        config = ImageConfig(architecture=platform.architecture, os=platform.os, author=self.author)
        image = await self.store.images.create(config)
        await self.store.images.tag(image, reference, beside=True)
        return await self.store.images.get(image)

    async def present(self) -> dict[Platform, Digest]:
        return {image.platform: image.id for image in await self.store.images.named(STATIC)}


def catalogue(archive: Archive, *platforms: Platform) -> OfferedCatalogue:
    return OfferedCatalogue(cast(Images, archive), platforms)


async def test_it_is_assembled_once_in_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(store)
    offered = catalogue(archive)
    both = await asyncio.gather(offered.get(STATIC, {}), offered.get(STATIC, {}))
    present = await archive.present()
    assert list(present) == [Platform.host()] and both[0] == both[1] == present == await offered.get(STATIC, present)
    asked = len(archive.asked)
    assert await offered.get(STATIC, {Platform.host(): Digest("0" * 64)}) == present, "replaced meanwhile"
    assert await offered.get(STATIC, {}) == present, "removed meanwhile"
    assert len(archive.asked) == asked + 2
    monkeypatch.setattr(offered_catalogue, "FRESH_SECONDS", 0.0)
    archive.author = "second"
    assert await offered.get(STATIC, present) == await archive.present() != present


async def test_what_is_here_is_served_when_the_archive_is_away(store: Store) -> None:
    archive, here = Archive(store), {Platform.host(): Digest("0" * 64)}
    archive.errors[Platform.host()] = Unavailable("no route")
    offered = catalogue(archive)
    assert await offered.get(STATIC, here) == here
    with pytest.raises(Unavailable):
        await offered.get(STATIC, {})
    archive.errors[Platform.host()] = Conflict("packages contradict each other")
    with pytest.raises(Conflict):
        await offered.get(STATIC, here)
    archive.errors[Platform.host()] = Unsupported("Debian has no packages for plan9/amd64")
    with pytest.raises(NotFound) as raised:
        await offered.get(STATIC, {})
    assert raised.value.code == "MANIFEST_UNKNOWN"


async def test_images_for_several_platforms(store: Store) -> None:
    archive = Archive(store)
    archive.errors[Platform("linux", "s390x")] = Unsupported("Debian has no packages for it")
    offered = catalogue(archive, Platform.host(), OTHER, Platform("linux", "s390x"))
    images = await offered.get(STATIC, {})
    assert list(images) == [Platform.host(), OTHER] and images == await archive.present()
    old = {Platform("linux", "arm64"): Digest("1" * 64)}
    assert await offered.get(STATIC, {**old, **images}) == {**old, **images}, "what the name stands for here stays in"
