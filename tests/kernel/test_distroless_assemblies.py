"""What build files ask for, assembled from the real archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from distroless_executor import run_in
from test_distroless_images import Bench, cache  # noqa: F401  # a fixture: both modules share the packages

from tare.errors import InvalidArgument, NotFound
from tare.model import Platform
from tare.model.assembly import Assembled, Assembly, PackageWish, Pin, SystemUser
from tare.store.images import Image
from tare.store.store import Store

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.timeout(180)]


class Workshop(Bench):
    async def assembled(self, assembly: Assembly, platform: str = "linux/amd64") -> tuple[Image, Assembled]:
        async with self.store.leases.hold() as lease:
            done = await self.catalogue.assemble_packages(
                assembly, Platform.parse(platform), lambda *step: self.progress.append(step), lease=lease
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


async def test_slices_of_real_packages_run(shop: Workshop) -> None:
    """A program and its libraries without anything else of their packages."""
    wishes = (
        PackageWish(name="openssl", slices=("bins",)),
        PackageWish(name="libssl3", slices=("libs",)),
        PackageWish(name="libc6", slices=("libs",)),
        PackageWish(name="libgcc-s1", slices=("libs",)),
        PackageWish(name="tzdata", slices=("zoneinfo",)),
    )
    image, done = await shop.assembled(Assembly(base="", packages=wishes))
    members = shop.members(image)
    assert image.size < 16 << 20
    assert named(done).keys() == {"gcc-12-base", "libc6", "libgcc-s1", "libssl3", "openssl", "tzdata"}
    assert not [path for path in members if path.startswith(("usr/share/zoneinfo/right/", "etc/ssl/openssl.cnf"))]
    assert not [path for path in members if "/gconv/" in path]
    assert {f"usr/share/doc/{name}/copyright" for name in ("openssl", "libssl3", "tzdata", "libc6")} <= members.keys()
    assert members["etc/localtime"].linkname == "/usr/share/zoneinfo/Etc/UTC"
    sums = shop.read(image, "var/lib/dpkg/status.d/libc6.md5sums").decode().splitlines()
    merged = {path.replace("usr/lib", "lib", 1) for path in members}
    assert {line.split()[1] for line in sums} <= {*members, *merged}
    async with shop.mounted(image) as root:
        status, output = await run_in(root, ("/usr/bin/openssl", "version"), env=(), user=65532)
    assert (status, output[:9]) == (0, b"OpenSSL 3")


async def test_slices_and_pins_for_another_architecture(shop: Workshop, tmp_path: Path) -> None:
    wishes = (PackageWish(name="libstdc++6", slices=("libs",)), PackageWish(name="netbase", slices=("config",)))
    assembly = Assembly(base="", packages=wishes)
    image, done = await shop.assembled(assembly, "linux/arm64")
    assert image.config.architecture == "arm64"
    members = shop.members(image)
    assert {
        "usr/lib/aarch64-linux-gnu/libstdc++.so.6",
        "usr/lib/ld-linux-aarch64.so.1",
        "etc/services",
    } <= members.keys()
    assert {pin.architecture for pin in done.pins} == {"arm64", "all"}
    locked, _ = await shop.assembled(replace(assembly, pins=done.pins), "linux/arm64")
    assert locked.id == image.id
    with pytest.raises(InvalidArgument, match="is for arm64, not for amd64"):
        await shop.assembled(replace(assembly, pins=done.pins))
    with pytest.raises(NotFound, match=r"libstdc\+\+6 has no slice lib .*did you mean libs"):
        await shop.assembled(Assembly(packages=(PackageWish(name="libstdc++6", slices=("lib",)),)), "linux/arm64")
