"""What build files ask for, assembled from the real archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from test_distroless_images import Bench, cache  # noqa: F401  # a fixture: both modules share the packages

from tare.model import Platform
from tare.model.assembly import Assembled, Assembly, PackageWish, Pin, SystemUser
from tare.store.images import Image
from tare.store.store import Store

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.timeout(180)]


class Workshop(Bench):
    async def assembled(self, assembly: Assembly, platform: str = "linux/amd64") -> tuple[Image, Assembled]:
        done = await self.catalogue.assemble_packages(
            assembly, Platform.parse(platform), lambda *step: self.progress.append(step)
        )
        return await self.store.images.get(done.image), done


@pytest.fixture
async def shop(tmp_path: Path, cache: Path) -> AsyncIterator[Workshop]:  # noqa: F811
    store = await Store.open(tmp_path / "data")
    yield Workshop(store, cache)
    await store.close()


def named(done: Assembled) -> Mapping[str, Pin]:
    return {pin.name: pin for pin in done.pins}


async def test_packages_are_added_to_a_base(shop: Workshop) -> None:
    assembly = Assembly(base="base", packages=(PackageWish(name="libpq5"),), users=(SystemUser(name="app", uid=1000),))
    image, done = await shop.assembled(assembly)
    assert image.tags == ()
    assert {"base-files", "tzdata", "libssl3", "libpq5", "libldap-2.5-0"} <= named(done).keys()
    assert [pin.name for pin in done.pins] == sorted(named(done))
    members = shop.members(image)
    assert "usr/lib/x86_64-linux-gnu/libpq.so.5" in members
    assert b"app:x:1000:1000:" in shop.read(image, "etc/passwd")
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" in (image.config.config.env or [])
    shop.progress.clear()
    again, _ = await shop.assembled(assembly)
    assert again.id == image.id
    assert [step for step, _ in shop.progress] == ["archive"]
    pinned = Assembly(base="base", packages=assembly.packages, users=assembly.users, pins=done.pins)
    shop.progress.clear()
    locked, same = await shop.assembled(pinned)
    assert (locked.id, same.pins) == (image.id, done.pins)
    assert "archive" not in [step for step, _ in shop.progress]  # all of them are in the cache
