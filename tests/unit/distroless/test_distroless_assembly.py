"""What an assembly asks for, assembled from an archive of made-up packages."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from deb_parts import member
from made_up_archive import MadeUpArchive, Workshop
from test_distroless_archive import Mirror, keys, mirror  # noqa: F401  # fixtures

from tare.errors import Conflict, InvalidArgument, NotFound, TareError, Unsupported
from tare.model import Digest, Platform, Reference
from tare.model.assembly import Assembly, PackageWish, SystemUser

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg signs the test archive")


@pytest.fixture
async def archive(mirror: Mirror) -> MadeUpArchive:  # noqa: F811
    """``server`` needs ``libthing``; ``tool`` needs nothing."""
    archive = MadeUpArchive(mirror)
    library = member("./lib/x86_64-linux-gnu/libthing.so.1.0", b"library")
    archive.add(
        "libthing",
        library,
        member("./lib/x86_64-linux-gnu/libthing.so.1", kind=tarfile.SYMTYPE, target="libthing.so.1.0"),
        member("./usr/share/thing/table", b"data"),
    )
    program = b"program"
    sums = "".join(f"{hashlib.md5(program).hexdigest()}  usr/{path}\n" for path in ("sbin/server", "lib/server/run"))
    archive.add(
        "server",
        member("./usr/sbin/server", kind=tarfile.SYMTYPE, target="../lib/server/run"),
        member("./usr/lib/server/run", program, mode=0o755),
        member("./usr/bin/serverctl", kind=tarfile.LNKTYPE, target="./usr/lib/server/run"),
        member("./etc/server/server.conf", b"port 80"),
        member("./etc/init.d/server", b"#!/bin/sh"),
        member("./usr/share/server/page.html", b"hello"),
        member("./usr/share/locale/de/server.mo", b"hallo"),
        member("./usr/share/man/man8/server.8", b"manual"),
        Depends="libthing (>= 1), helper",
        extra={"md5sums": sums, "conffiles": "/etc/server/server.conf\n"},
    )
    archive.add("helper", member("./usr/bin/helper", b"help"))
    archive.add("tool", member("./usr/bin/tool", b"tool"), member("./etc/init.d/tool", b"#!/bin/sh"))
    archive.publish()
    return archive


@pytest.fixture
async def shop(tmp_path: Path, archive: MadeUpArchive) -> AsyncIterator[Workshop]:
    shop = await Workshop.open(tmp_path / "data", archive.mirror)
    yield shop
    await shop.store.close()


def part(name: str, *slices: str, version: str = "") -> PackageWish:
    return PackageWish(name=name, slices=slices, version=version)


def packages(done: object) -> list[str]:
    return [pin.name for pin in done.pins]  # type: ignore[attr-defined]


async def files(shop: Workshop, *wishes: str | PackageWish, **fields: object) -> set[str]:
    return await shop.files(await shop.assemble(*wishes, **fields))


async def test_a_whole_package_brings_what_it_needs(shop: Workshop) -> None:
    done = await shop.assemble("server")
    assert packages(done) == ["helper", "libthing", "server"]
    image = await shop.store.images.get(done.image)
    assert (image.tags, image.config.architecture) == ((), "amd64")
    members = await shop.members(done)
    assert {"usr/sbin/server", "usr/bin/helper", "usr/lib/x86_64-linux-gnu/libthing.so.1"} <= members.keys()
    assert not {"usr/share/man/man8/server.8", "usr/share/locale/de/server.mo", "etc/init.d/server"} & members.keys()


SERVER = {
    "usr/sbin/server", "usr/lib/server/run", "usr/bin/helper", "usr/share/thing/table",
    "usr/lib/x86_64-linux-gnu/libthing.so.1", "usr/lib/x86_64-linux-gnu/libthing.so.1.0",
}  # fmt: skip
"""What a link points to comes along, and so do a program's dependencies."""


async def test_slices(shop: Workshop) -> None:
    for slices, expected, closure in (
        (["config"], {"etc/server/server.conf"}, ["server"]),
        (["data"], {"usr/share/server/page.html"}, ["server"]),
        (["locales"], {"usr/share/locale/de/server.mo"}, ["server"]),
        (["docs"], {"usr/share/man/man8/server.8"}, ["server"]),
        (["copyright"], set(), ["server"]),
        (["config", "data"], {"etc/server/server.conf", "usr/share/server/page.html"}, ["server"]),
        (["/etc/*/*.conf"], {"etc/server/server.conf"}, ["server"]),
        (["/usr/sbin/server"], SERVER, ["helper", "libthing", "server"]),
    ):
        done = await shop.assemble(part("server", *slices))
        assert (await shop.files(done), packages(done)) == (expected, closure), slices
        members = await shop.members(done)
        assert {"usr/share/doc/server/copyright", "var/lib/dpkg/status.d/server"} <= members.keys()


async def test_a_slice_stands_for_its_package_where_others_need_it(shop: Workshop) -> None:
    found = await files(shop, part("server", "bins"), part("libthing", "libs"))
    assert {"usr/lib/x86_64-linux-gnu/libthing.so.1.0", "usr/bin/serverctl", "usr/sbin/server"} <= found
    assert not found & {"usr/share/thing/table", "etc/server/server.conf", "usr/share/server/page.html"}


async def test_a_hard_link_whose_first_name_is_not_taken_is_the_file(shop: Workshop) -> None:
    done = await shop.assemble(part("server", "/usr/bin/serverctl"))
    member = (await shop.members(done))["usr/bin/serverctl"]
    assert member.isreg()
    assert await shop.read(done, "usr/bin/serverctl") == b"program"


async def test_a_package_that_is_wanted_whole_as_well_is_whole(shop: Workshop) -> None:
    assert await files(shop, part("server", "config"), "server") == await files(shop, "server")


async def test_slices_of_ones_own_have_patterns(shop: Workshop) -> None:
    own = {"server": {"page": ("/usr/share/**/*.html",), "german": ("/usr/share/locale/de",)}}
    assert await files(shop, part("server", "page", "german"), slices=own) == {
        "usr/share/server/page.html",
        "usr/share/locale/de/server.mo",
    }


async def test_status_lists_what_is_there(shop: Workshop) -> None:
    done = await shop.assemble(part("server", "bins"))
    sums = (await shop.read(done, "var/lib/dpkg/status.d/server.md5sums")).decode()
    assert [line.split()[1] for line in sums.splitlines()] == ["usr/sbin/server", "usr/lib/server/run"]
    assert b"Conffiles" not in await shop.read(done, "var/lib/dpkg/status.d/server")
    done = await shop.assemble(part("server", "config"))
    assert await shop.read(done, "var/lib/dpkg/status.d/server.md5sums") == b""
    assert b"Conffiles:\n /etc/server/server.conf " in await shop.read(done, "var/lib/dpkg/status.d/server")


async def test_bad_slices(shop: Workshop) -> None:
    cases: list[tuple[PackageWish, object, type[TareError], str, str]] = [
        (
            part("server", "lib"),
            {},
            NotFound,
            "slice-unknown",
            r"server has no slice lib \(did you mean libs\?.*no-docs",
        ),
        (part("tool", "x"), {"tool": {"y": ("/a",)}}, NotFound, "slice-unknown", r"no slice x \(there are .*\by\b"),
        (
            part("tool", "libs"),
            {},
            NotFound,
            "slice-empty",
            r"libs of tool 1 is empty \(not empty are bins, copy",
        ),
        (
            part("tool", "config"),
            {},
            NotFound,
            "slice-empty",
            "slice config of tool 1 is empty",
        ),  # but for an init script
        (part("tool", "/opt/**"), {}, NotFound, "slice-empty", r"slice /opt/\*\* of tool 1 is empty"),
        (part("tool", "y"), {"tool": {"y": ("/../x",)}}, InvalidArgument, "slice-pattern", "no pattern of paths"),
        (part("tool", "/../x"), {}, InvalidArgument, "slice-pattern", "no pattern of paths"),
        (part("tool", "/**/a/**/b/**/c/**"), {}, InvalidArgument, "slice-pattern", "more than 3 times"),
        (
            part("tool", "y"),
            {"tool": {"y": ()}},
            InvalidArgument,
            "slice-pattern",
            "slice y of tool: it has no patterns",
        ),
    ]
    for wish, own, error, code, message in cases:
        with pytest.raises(error, match=message) as caught:
            await shop.assemble(wish, slices=own)
        assert caught.value.code == code
    assert await shop.store.images.list() == []


async def test_versions(shop: Workshop, archive: MadeUpArchive) -> None:
    archive.add("server", member("./usr/sbin/server", b"2"), version="2", Depends="libthing (= 2)")
    archive.add("libthing", member("./usr/lib/libthing.so.2", b"2"), version="2")
    archive.stanzas["server", "1"] = archive.stanzas["server", "1"].replace("libthing (>= 1)", "libthing (= 1)")
    archive.publish()
    newest = await shop.assemble("server")
    assert [(pin.name, pin.version) for pin in newest.pins] == [("libthing", "2"), ("server", "2")]
    older = await shop.assemble(part("server", version="1"))
    assert [(pin.name, pin.version) for pin in older.pins] == [("helper", "1"), ("libthing", "1"), ("server", "1")]
    with pytest.raises(NotFound, match=r"server 3 is not in the archive \(there is 2, 1\)") as missing:
        await shop.assemble(part("server", version="3"))
    assert missing.value.code == "package-version"
    with pytest.raises(Conflict, match=r"server 1 → libthing \(= 1\) \(2 is taken\)"):
        await shop.assemble(part("server", version="1"), part("libthing", version="2"))
    with pytest.raises(InvalidArgument, match="server is wanted in two versions, 1 and 2"):
        await shop.assemble(part("server", version="1"), part("server", version="2"))


async def test_exclusions(shop: Workshop) -> None:
    done = await shop.assemble("server", excluded={"helper": "asks people"})
    assert packages(done) == ["libthing", "server"]
    with pytest.raises(NotFound, match=r"helpr is excluded, but no package needs it \(did you mean helper\?\)") as typo:
        await shop.assemble("server", excluded={"helpr": "asks people"})
    assert typo.value.code == "exclusion-needless"
    with pytest.raises(InvalidArgument, match="package server is wanted and excluded"):
        await shop.assemble("server", excluded={"server": "why"})
    with pytest.raises(Conflict, match="tzdata is excluded, and the base static is made of it"):
        await shop.assemble("server", base="static", excluded={"tzdata": "large"})


async def test_two_packages_that_claim_a_path(shop: Workshop, archive: MadeUpArchive) -> None:
    archive.add("other", member("./usr/bin/tool", b"another"))
    archive.publish()
    with pytest.raises(Conflict, match=r"/usr/bin/tool is claimed by other and tool \(.*slice") as caught:
        await shop.assemble("tool", "other")
    assert caught.value.code == "path-conflict"
    assert await shop.store.images.list() == []


@pytest.mark.parametrize(
    ("wishes", "error", "message"),
    [
        (["serevr"], NotFound, r"package serevr is not in the archive \(did you mean server\?\)"),
        (["broken"], Conflict, r"unsatisfiable dependency: broken 1 → libthing \(>= 9\) \(the archive has 1\)"),
        (["enemy", "tool"], Conflict, "enemy 1 conflicts with tool 1"),
    ],
)
async def test_packages_that_cannot_be_had(
    shop: Workshop, archive: MadeUpArchive, wishes: list[str], error: type[TareError], message: str
) -> None:
    archive.add("broken", Depends="libthing (>= 9)")
    archive.add("enemy", Conflicts="tool")
    archive.publish()
    with pytest.raises(error, match=message):
        await shop.assemble(*wishes)
    assert await shop.store.images.list() == []


async def test_bases_and_platforms_that_there_are_not(shop: Workshop) -> None:
    with pytest.raises(NotFound, match=r"there is no base statc \(did you mean static\?"):
        await shop.assemble("tool", base="statc")
    with pytest.raises(NotFound, match=r"there is no Debian 99 \(the releases are latest, 12, bookworm\)"):
        await shop.assemble("tool", release="99")
    with pytest.raises(Unsupported, match="Debian has no packages for linux/riscv64"):
        await shop.catalogue.assemble_packages(Assembly(), Platform("linux", "riscv64"), lambda *_: None, lease="")


async def test_users(shop: Workshop) -> None:
    app = SystemUser(name="app", uid=1000, home="/home/app")
    done = await shop.assemble("tool", users=(app, SystemUser(name="nonroot", uid=65532, home="/home/nonroot")))
    assert b"\napp:x:1000:1000:app:/home/app:/sbin/nologin\n" in await shop.read(done, "etc/passwd")
    assert (await shop.read(done, "etc/passwd")).count(b"\nnonroot:") == 1
    assert b"\napp:x:1000:\n" in await shop.read(done, "etc/group")
    home = (await shop.members(done))["home/app"]
    assert (home.uid, home.gid, home.mode) == (1000, 1000, 0o700)
    for user, message in (
        (SystemUser(name="app", uid=65532), r"user app \(65532\): /etc/passwd has nonroot \(65532\)"),
        (SystemUser(name="staff", uid=1000), r"user staff \(1000\): /etc/group has staff \(50\)"),
    ):
        with pytest.raises(Conflict, match=message) as caught:
            await shop.assemble("tool", users=(user,))
        assert caught.value.code == "user-conflict"
    with pytest.raises(InvalidArgument, match="cannot be written to /etc/passwd"):
        await shop.assemble("tool", users=(SystemUser(name="a:0:0", uid=5),))


async def test_no_time_is_later_than_the_epoch(shop: Workshop) -> None:
    done = await shop.assemble("tool", epoch=500)
    image = await shop.store.images.get(done.image)
    assert image.config.created == "1970-01-01T00:08:20Z"
    assert {item.mtime for item in (await shop.members(done)).values()} == {500}
    built = await shop.store.images.get((await shop.assemble("tool")).image)
    assert built.config.created == "1970-01-01T00:33:20Z"  # the package's build


async def test_an_image_without_a_name_comes_back_while_its_layer_is_there(shop: Workshop) -> None:
    first = await shop.assemble("tool")
    again = await shop.assemble("tool")
    assert first == again
    assert [step for step, _ in shop.progress] == ["archive"]
    image = await shop.store.images.get(first.image)
    await shop.store.images.create(replace_comment(image.config), tag=None)  # another image has the layer
    await shop.store.images.remove(first.image)
    assert await shop.assemble("tool") == first
    assert [step for step, _ in shop.progress] == ["archive"]
    for one in await shop.store.images.list():
        await shop.store.images.remove(one.id)
    await shop.store.collect()
    assert await shop.assemble("tool") == first
    assert "assemble" in [step for step, _ in shop.progress]


def replace_comment(config: object) -> object:
    import msgspec

    return msgspec.structs.replace(config, author="another")  # type: ignore[type-var]


async def test_an_image_without_a_name_goes_with_the_last_lease(shop: Workshop) -> None:
    store = shop.store
    assembly = Assembly(base="", packages=(PackageWish(name="tool"),))

    async def assemble(lease: str) -> Digest:
        done = await shop.catalogue.assemble_packages(assembly, Platform(), lambda *_: None, lease=lease)
        return done.image

    async with store.leases.hold() as mine, store.leases.hold() as other:
        image = await assemble(mine)
        assert await assemble(other) == image
        await store.images.remove_unnamed(image, mine)
        assert [one.id for one in await store.images.list()] == [image]  # the other one holds it
    async with store.leases.hold() as mine:
        await assemble(mine)
        await store.images.tag(image, Reference.parse("kept:1"))
        await store.images.remove_unnamed(image, mine)
        assert [one.id for one in await store.images.list()] == [image]
        await store.images.untag(Reference.parse("kept:1"), image)
        await store.images.remove_unnamed(image, mine)
        assert await store.images.list() == []
        assert await assemble(mine) == image
        await store.images.remove_unnamed(image, mine)
    await store.collect()
    assert await shop.store.layers.usage() == 0


async def test_pins_need_no_archive_once_packages_are_cached(shop: Workshop, archive: MadeUpArchive) -> None:
    newest = await shop.assemble("server")
    archive.add("libthing", version="2")
    archive.publish()
    archive.mirror.requests.clear()
    locked = await shop.assemble("server", pins=newest.pins)
    assert locked.pins == newest.pins
    assert archive.mirror.requests == []
    assert (await shop.assemble("server")).image != locked.image
    assert locked.image == newest.image


async def test_pins_are_fetched_and_verified(shop: Workshop, archive: MadeUpArchive, tmp_path: Path) -> None:
    newest = await shop.assemble("tool")
    other = await Workshop.open(tmp_path / "other", archive.mirror)
    try:
        assert (await other.assemble("tool", pins=newest.pins)).image == newest.image
        (tool,) = newest.pins
        for pin, message in (
            (replace(tool, sha256="0" * 64), "tool 1 is pinned with sha256 0000.* but the archive's file is tool 1"),
            (replace(tool, size=1), "and 1 bytes, but the cached file is tool 1 with"),
        ):
            with pytest.raises(Conflict, match=message) as caught:
                await other.assemble("tool", pins=(pin,))
            assert (caught.value.code, "--update-lock" in caught.value.hint) == ("pin-differs", True)
    finally:
        await other.store.close()


async def test_a_pinned_package_that_is_gone(shop: Workshop, archive: MadeUpArchive, tmp_path: Path) -> None:
    newest = await shop.assemble("tool")
    archive.forget("tool")
    archive.add("tool", member("./usr/bin/tool", b"2"), version="2")
    archive.publish()
    assert (await shop.assemble("tool", pins=newest.pins)).image == newest.image  # the cache has it
    other = await Workshop.open(tmp_path / "other", archive.mirror)
    try:
        with pytest.raises(NotFound, match=r"tool 1 is pinned, but neither .* has 2 \(--update-lock takes") as caught:
            await other.assemble("tool", pins=newest.pins)
        assert caught.value.code == "pin-gone"
        archive.mirror.files.clear()
        with pytest.raises(NotFound, match="InRelease: not found"):
            await other.assemble("tool", pins=newest.pins)
    finally:
        await other.store.close()


async def test_pins_that_do_not_fit(shop: Workshop) -> None:
    server, tool = (await shop.assemble("server")).pins, (await shop.assemble("tool")).pins
    for wishes, pins, message in (
        (["server"], server[1:], "lock does not fit: server 1 needs helper, which is not in it"),
        (["server"], tool, "lock does not fit: server is wanted and not in it"),
        (["server"], (*server, *tool), "lock does not fit: nothing needs tool"),
        ([part("tool", version="2")], tool, "lock does not fit: tool is wanted in version 2, it has 1"),
    ):
        with pytest.raises(Conflict, match=message) as caught:
            await shop.assemble(*wishes, pins=pins)  # type: ignore[misc]
        assert (caught.value.code, "--update-lock" in caught.value.hint) == ("lock-stale", True)


async def test_pins_that_no_lock_file_may_hold(shop: Workshop) -> None:
    (tool,) = (await shop.assemble("tool")).pins
    for pins, message in (
        ((replace(tool, sha256="../../etc/passwd"),), "pinned package tool 1: its sha256 is"),
        ((replace(tool, architecture="arm64"),), "it is for arm64, not for amd64"),
        ((tool, tool), "it is there twice"),
    ):
        with pytest.raises(InvalidArgument, match=message) as caught:
            await shop.assemble("tool", pins=pins)
        assert caught.value.code == "pin-invalid"
