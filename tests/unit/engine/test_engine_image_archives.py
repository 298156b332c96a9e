"""Archives of images: what is loaded of them, and what is saved."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import json
import lzma
import shutil
import tarfile
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from image_archives import LAYER, Layout, Link, config, digest, docker_archive, layer, sha, tar_of
from tare.archive.expansion import ExpansionLimits
from tare.engine.events import Events
from tare.engine.image_archives.loading import ImageLoader, LoadedImage
from tare.engine.image_archives.saving import ImageSaver
from tare.errors import DataCorrupt, InvalidArgument, NotFound, TareError, Unsupported
from tare.model import Digest, Platform, Reference
from tare.store.store import Store

A, B, C = layer("a"), layer("b", 400_000), layer("c")
ARM = Platform("linux", "arm64")


class Host:
    """A store with what loads into it and saves from it."""

    def __init__(self, store: Store, limits: ExpansionLimits | None = None) -> None:
        self.store = store
        self.events = Events()
        self.loader = ImageLoader(store, self.events, limits or ExpansionLimits())
        self.saver = ImageSaver(store, self.events)

    async def load(self, data: bytes, **options: Any) -> list[LoadedImage]:
        return await self.loader.load(io.BytesIO(data), **options)

    async def save(self, *names: str, **options: Any) -> bytes:
        return b"".join([piece async for piece in await self.saver.save(names, **options)])

    async def state(self) -> dict[str, Any]:
        """All files of images, and all rows about them."""
        tables = ("images", "image_layers", "tags", "layers", "blobs", "leases")
        rows = await self.store.db.read(
            lambda connection: {
                table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in tables
            }
        )
        files = sorted(str(path) for path in self.store.root.rglob("*") if "tare.db" not in path.name)
        return {"files": files, **rows}


async def host_at(path: Path, limits: ExpansionLimits | None = None) -> Host:
    return Host(await Store.open(path), limits)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new data root, to copy: making one takes longer than most tests."""
    root = tmp_path_factory.mktemp("empty") / "data"

    async def make() -> None:
        await (await Store.open(root)).close()

    asyncio.run(make())
    return root


@pytest.fixture
async def host(empty: Path, tmp_path: Path) -> AsyncIterator[Host]:
    made = await host_at(shutil.copytree(empty, tmp_path / "data"))
    yield made
    await made.store.close()


def shown(images: list[LoadedImage]) -> list[tuple[str, list[str]]]:
    return [(str(image.id), [name.familiar() for name in image.names]) for image in images]


async def test_a_docker_archive(host: Host) -> None:
    loaded = await host.load(tar_of(docker_archive([A, B], ["app:1", "reg.test:5000/team/app:x"])))
    image = await host.store.images.resolve("app:1")
    assert shown(loaded) == [(digest(config([A, B])), ["app:1", "reg.test:5000/team/app:x"])]
    assert (image.id, image.size) == (loaded[0].id, len(A) + len(B))
    assert [host.store.layers.path(item).read_bytes() for item in image.diff_ids] == [A, B]
    assert await host.store.content.read(image.id) == config([A, B])  # its own bytes: unknown members stay
    assert list(host.store.staging.iterdir()) == []
    assert (await host.state())["leases"] == []


async def test_the_order_of_members_does_not_matter(host: Host) -> None:
    members = list(docker_archive([A, B], ["app:1"]).items())
    first = await host.load(tar_of(members))
    await host.store.images.remove(first[0].id)
    await host.store.collect()
    assert await host.load(tar_of(members[::-1])) == first


async def test_an_archive_of_an_old_docker(host: Host) -> None:
    """Layers in directories named by v1 identifiers; equal ones are links to the first, symbolic or hard."""
    first, second, third = sha(b"1"), sha(b"2"), sha(b"3")
    document = config([A, B, A])
    members: dict[str, bytes | Link] = {
        f"{sha(document)}.json": document,
        f"{third}/layer.tar": Link(f"../{first}/layer.tar"),
        f"{first}/VERSION": b"1.0",
        f"{first}/json": b"{}",
        f"{first}/layer.tar": A,
        f"{second}/layer.tar": B,
        "manifest.json": json.dumps(
            [{"Config": f"{sha(document)}.json", "RepoTags": ["old:1"],
              "Layers": [f"{name}/layer.tar" for name in (first, second, third)]}]
        ).encode(),
        "repositories": b"{}",
    }  # fmt: skip
    expected = [(digest(document), ["old:1"])]
    assert shown(await host.load(tar_of(members))) == expected
    members[f"{third}/layer.tar"] = Link(f"{first}/layer.tar", hard=True)
    members["./loop"] = Link("loop")  # nothing needs it
    assert shown(await host.load(tar_of(list(members.items())[::-1]))) == expected


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["gzip", "bzip2", "xz", "zstd"],
)
async def test_a_compressed_archive(host: Host, pack: Callable[[bytes], bytes]) -> None:
    assert shown(await host.load(pack(tar_of(docker_archive([A], ["app:1"]))))) == [(digest(config([A])), ["app:1"])]


@pytest.mark.parametrize("packing", ["", "+gzip", "+zstd"])
async def test_an_oci_layout(host: Host, packing: str) -> None:
    made = Layout()
    made.name(made.image([A, B], packing), ref="team/app:2")
    loaded = await host.load(tar_of(made.all()))
    assert shown(loaded) == [(digest(config([A, B])), ["team/app:2"])]
    image = await host.store.images.resolve("team/app:2")
    assert [host.store.layers.path(item).read_bytes() for item in image.diff_ids] == [A, B]


async def test_names_of_a_layout(host: Host) -> None:
    cases: list[tuple[dict[str, str], list[str]]] = [
        ({"full": "docker.io/library/app:1", "ref": "1"}, ["app:1"]),
        ({"full": "docker.io/library/app:1@sha256:" + "a" * 64}, ["app:1"]),
        ({"full": "reg.test/app@sha256:" + "a" * 64}, []),
        ({"ref": "localhost/app:1"}, ["localhost/app:1"]),
        ({"ref": "1.0"}, []),  # a tag of what?
        ({"ref": "Any Text"}, []),
        ({}, []),
    ]
    for given, names in cases:
        made = Layout()
        made.name(made.image([A]), **given)
        assert [name.familiar() for name in (await host.load(tar_of(made.all())))[0].names] == names, given


async def test_one_image_with_several_names(host: Host) -> None:
    made = Layout()
    image = made.image([A])
    for name in ("app:1", "app:2"):
        made.name(image, full=f"docker.io/library/{name}")
    other = made.image([B])
    made.name(other, full="docker.io/library/other:1")
    found = shown(await host.load(tar_of(made.all())))
    assert found == [(digest(config([A])), ["app:1", "app:2"]), (digest(config([B])), ["other:1"])]


def several_platforms() -> Layout:
    made = Layout()
    attestation = made.blob(b'{"in-toto": true}', "application/vnd.oci.image.manifest.v1+json")
    attestation["platform"] = {"os": "unknown", "architecture": "unknown"}
    images = [made.image([data], "+gzip", architecture=name) for data, name in ((B, "arm64"), (A, "amd64"))]
    made.name(made.index([*images, attestation]), full="docker.io/library/app:1")
    return made


async def test_the_platforms_of_an_index(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    arm, here = Digest.of(config([B], architecture="arm64")), Digest.of(config([A]))
    (image,) = await host.load(tar_of(several_platforms().all()), platform=Platform("linux", "arm64", "v8"))
    assert (image.id, image.others) == (arm, (Platform(),))
    assert len(await host.store.layers.sizes()) == 1  # the other one's layer did not stay
    loaded = await host.load(tar_of(several_platforms().all()))
    assert [(image.id, image.others, image.renamed) for image in loaded] == [(arm, (), {}), (here, (), {})]
    assert (await host.store.images.resolve("app:1")).id == here
    assert (await host.store.images.resolve("app:1", ARM)).id == arm
    (image,) = await host.load(tar_of(docker_archive([C], ["app:1"])))
    assert image.renamed.keys() == {Reference.parse("app:1")}
    assert [found.id for found in await host.store.images.named(Reference.parse("app:1"))] == [image.id]


async def test_saving_several_platforms(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    arm, here = config([B], architecture="arm64"), config([A])
    await host.load(tar_of(several_platforms().all()))
    members = await members_of(host, "app:1")
    assert [(item["Config"], item["RepoTags"]) for item in json.loads(members["manifest.json"])] == [
        (f"blobs/sha256/{sha(here)}", ["app:1"])
    ]
    assert json.loads(members["repositories"]) == {"app": {"1": sha(A)}}
    (entry,) = json.loads(members["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/app:1"
    inner = json.loads(members[f"blobs/sha256/{entry['digest'][7:]}"])
    assert [item["platform"] for item in inner["manifests"]] == [
        {"architecture": name, "os": "linux"} for name in ("amd64", "arm64")
    ]
    one = await host.save("app:1", platform=ARM)
    saved = await host.save("app")
    other = await host_at(tmp_path / "other")
    try:
        assert shown(await other.load(saved)) == [(digest(data), ["app:1"]) for data in (here, arm)]
        assert await other.save("app:1") == saved  # whichever came last
        await other.store.images.untag(Reference.parse("app:1"), Digest.of(here))
        assert await other.save("app:1") == one
    finally:
        await other.store.close()


async def test_a_platform_that_is_not_there(host: Host) -> None:
    before = await host.state()
    for members in (several_platforms().all(), docker_archive([A], ["app:1"])):
        with pytest.raises(NotFound, match="no suitable image found for platform linux/s390x") as raised:
            await host.load(tar_of(members), platform=Platform("linux", "s390x"))
        assert (raised.value.code, "linux/amd64" in raised.value.hint) == ("platform-missing", True)
    assert await host.state() == before


async def test_the_only_image_is_taken_whatever_it_is_for(host: Host) -> None:
    made = Layout()
    made.name(made.index([made.image([A], architecture="s390x")]), full="docker.io/library/app:1")
    (image,) = await host.load(tar_of(made.all()))
    assert (await host.store.images.get(image.id)).config.architecture == "s390x"


async def test_an_index_that_names_more_than_there_is(host: Host) -> None:
    made = Layout()
    images = [made.image([data], architecture=name) for data, name in ((B, "s390x"), (A, "amd64"))]
    made.name(made.index(images), full="docker.io/library/app:1")
    del made.members[f"blobs/sha256/{images[1]['digest'][7:]}"]
    (image,) = await host.load(tar_of(made.all()))
    assert (image.id, image.others) == (Digest.of(config([B], architecture="s390x")), (Platform(),))


async def test_two_at_the_same_time(host: Host) -> None:
    archives = [tar_of(docker_archive([A, B], [f"app:{number}"])) for number in range(4)]
    loaded = await asyncio.gather(*(host.load(archive) for archive in archives))
    assert {image.id for (image,) in loaded} == {Digest.of(config([A, B]))}
    assert len((await host.store.images.resolve("app:0")).tags) == 4
    assert list(host.store.staging.iterdir()) == []


async def test_layers_that_are_there_are_not_read(host: Host) -> None:
    await host.load(tar_of(docker_archive([B], ["base:1"])))
    members = docker_archive([B, C], ["app:1"])
    members[f"blobs/sha256/{sha(B)}"] = bytes(len(B))  # passed over, so nobody notices
    heard: list[dict[str, Any]] = []
    await host.load(tar_of(members), progress=heard.append)
    await asyncio.sleep(0)  # messages come from a thread
    assert {message["id"] for message in heard} == {sha(C)[:12]}
    del members[f"blobs/sha256/{sha(B)}"]
    await host.load(tar_of(members))  # nor are they needed
    image = await host.store.images.resolve("app:1")
    assert host.store.layers.path(image.diff_ids[0]).read_bytes() == B


async def test_progress_as_docker_tells_it(host: Host) -> None:
    heard: list[dict[str, Any]] = []
    await host.load(tar_of(docker_archive([A], ["app:1"])), progress=heard.append)
    await asyncio.sleep(0)
    total = len(A)
    assert heard[-1] == {
        "status": "Loading layer",
        "progressDetail": {"current": total, "total": total},
        "progress": f"[{'=' * 50}>]  10.24kB/10.24kB",
        "id": sha(A)[:12],
    }


async def test_events(host: Host) -> None:
    (image,) = await host.load(tar_of(docker_archive([A], ["app:1"])))
    await host.save("app:1")
    events = [event async for event in host.events.subscribe(until=0)]
    assert [(event.type, event.action, event.actor_id, event.attributes) for event in events] == [
        ("image", action, str(image.id), {"a": "b", "name": str(image.id)}) for action in ("load", "save")
    ]


# what is refused


def changed(**changes: Any) -> bytes:
    return tar_of(docker_archive([A, B], ["app:1"], **changes))


def without(data: bytes) -> bytes:
    members = docker_archive([A, B], ["app:1"])
    del members[f"blobs/sha256/{sha(data)}"]
    return tar_of(members)


def replaced(old: bytes, new: bytes) -> bytes:
    members = docker_archive([A, B], ["app:1"])
    members[f"blobs/sha256/{sha(old)}"] = new
    return tar_of(members)


def layout_with(change: Callable[[Layout, dict[str, Any]], dict[str, Any]]) -> bytes:
    """A layout whose manifest is what ``change`` makes of it."""
    made = Layout()
    described = made.image([A, B], "+gzip")
    document = json.loads(bytes(made.members.pop(f"blobs/sha256/{described['digest'][7:]}")))  # type: ignore[arg-type]
    document = change(made, document)
    made.name(made.blob(json.dumps(document).encode(), document["mediaType"]), full="docker.io/library/app:1")
    return tar_of(made.all())


def other_blob(made: Layout, document: dict[str, Any]) -> dict[str, Any]:
    path = f"blobs/sha256/{document['layers'][0]['digest'][7:]}"
    made.members[path] = gzip.compress(C, mtime=0).ljust(document["layers"][0]["size"], b"\0")
    return document | {"layers": [document["layers"][0] | {"size": len(made.members[path])}, document["layers"][1]]}  # type: ignore[arg-type]


def wrong_size(_: Layout, document: dict[str, Any]) -> dict[str, Any]:
    return document | {"layers": [document["layers"][0] | {"size": 1 << 50}, document["layers"][1]]}


def swapped(_: Layout, document: dict[str, Any]) -> dict[str, Any]:
    return document | {"layers": document["layers"][::-1]}


def odd_layer(made: Layout, document: dict[str, Any]) -> dict[str, Any]:
    return document | {"layers": [document["layers"][0] | {"mediaType": f"{LAYER}+brotli"}, document["layers"][1]]}


def odd_config(made: Layout, document: dict[str, Any]) -> dict[str, Any]:
    return document | {"config": document["config"] | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}}


def odd_manifest(made: Layout, document: dict[str, Any]) -> dict[str, Any]:
    return document | {"mediaType": "application/vnd.example.v1+json"}


def damaged_layer(made: Layout, document: dict[str, Any]) -> dict[str, Any]:
    data = gzip.compress(B, mtime=0)
    described = made.blob(data[: len(data) // 2], f"{LAYER}+gzip")
    return document | {"layers": [document["layers"][0], described]}


BOMB = gzip.compress(bytes(8 << 20))
OTHER = config([A, B], author="somebody else")
TWO = docker_archive([A], ["first:1"]) | docker_archive([C], ["second:1"])
TWO["manifest.json"] = json.dumps(
    [json.loads(bytes(docker_archive([data], [name])["manifest.json"]))[0]  # type: ignore[arg-type]
     for data, name in ((A, "first:1"), (C, "second:1"))]
).encode()  # fmt: skip
del TWO[f"blobs/sha256/{sha(C)}"]

REFUSED: dict[str, tuple[bytes, type[TareError], str, str]] = {
    "nothing": (b"", DataCorrupt, "archive-unknown", "neither manifest.json nor index.json"),
    "garbage": (b"garbage " * 1000, DataCorrupt, "archive-damaged", "tar"),
    "root file system": (layer("etc"), DataCorrupt, "archive-unknown", "neither manifest.json nor index.json"),
    "null": (tar_of({"manifest.json": b"null"}), DataCorrupt, "archive-damaged", "manifest cannot be null"),
    "no list": (tar_of({"manifest.json": b"{}"}), DataCorrupt, "archive-damaged", "manifest.json: not an image"),
    "no JSON": (tar_of({"index.json": b"\xff"}), DataCorrupt, "archive-damaged", "index.json: not an image index"),
    "layer for manifest": (tar_of({"manifest.json": A * 900}), DataCorrupt, "archive-damaged", "no document"),
    "no configuration": (without(config([A, B])), DataCorrupt, "archive-incomplete", "not in the archive"),
    "no layer": (without(B), DataCorrupt, "archive-incomplete", "layer 1 .* is not in the archive"),
    "second image": (tar_of(TWO), DataCorrupt, "archive-incomplete", "layer 0 .* is not in the archive"),
    "other configuration": (replaced(config([A, B]), OTHER), DataCorrupt, "digest-mismatch", "has the digest"),
    "other layer": (replaced(B, C), DataCorrupt, "diffid-mismatch", "invalid diffID for layer 1: expected"),
    "no tar": (replaced(B, b"no tar"), DataCorrupt, "archive-damaged", "no tar archive"),
    "too few layers": (changed(Layers=[]), DataCorrupt, "archive-damaged", "layers length mismatch: expected 0, got 2"),
    "path outside": (changed(Config="../../etc/passwd"), DataCorrupt, "archive-outside", "leads out"),
    "bad name": (tar_of(docker_archive([A], ["App:1"])), InvalidArgument, "", "must be lowercase"),
    "no tag": (tar_of(docker_archive([A], ["app"])), InvalidArgument, "", 'invalid tag "app"'),
    "windows": (
        tar_of(docker_archive([A], ["app:1"], document=config([A], os="windows"))),
        Unsupported, "platform-unsupported", "cannot load windows image on linux",
    ),
    "other blob": (layout_with(other_blob), DataCorrupt, "digest-mismatch", "has the digest"),
    "absurd size": (layout_with(wrong_size), DataCorrupt, "archive-damaged", "expected 1125899906842624"),
    "swapped layers": (layout_with(swapped), DataCorrupt, "diffid-mismatch", "invalid diffID for layer 0"),
    "odd layer": (layout_with(odd_layer), Unsupported, "media-type-unknown", "brotli"),
    "odd configuration": (layout_with(odd_config), Unsupported, "media-type-unknown", "helm"),
    "odd manifest": (layout_with(odd_manifest), Unsupported, "media-type-unknown", "vnd.example"),
    "damaged layer": (layout_with(damaged_layer), DataCorrupt, "archive-damaged", "damaged gzip stream"),
    "bomb within": (replaced(B, BOMB), InvalidArgument, "layer-bomb", "unpacks to .*MiB"),
    "bomb": (gzip.compress(tar_of({"x": bytes(8 << 20)})), InvalidArgument, "layer-bomb", "unpacks to .*MiB"),
    "cut": (changed()[:300_000], DataCorrupt, "archive-damaged", "ends within"),
    "cut and compressed": (gzip.compress(changed())[:-500], DataCorrupt, "archive-damaged", "damaged gzip stream"),
    "climbing member": (tar_of({"../x": A, **docker_archive([A], None)}), DataCorrupt, "archive-damaged", "outside"),
    "absolute member": (tar_of({"/x": A, **docker_archive([A], None)}), DataCorrupt, "archive-damaged", "absolute"),
    "climbing link": (
        tar_of({"manifest.json": Link("../../../../etc/passwd")}), DataCorrupt, "archive-outside", "leads out",
    ),
    "loop": (tar_of({"manifest.json": Link("a"), "a": Link("manifest.json")}), DataCorrupt, "archive-damaged", "links"),
    "twice": (
        tar_of([*docker_archive([A], None).items(), ("manifest.json", b"[]")]),
        DataCorrupt, "archive-duplicate", "two different members",
    ),
    "layer twice": (
        tar_of([("l", A), ("l", B), *docker_archive([A], None).items()]),
        DataCorrupt, "archive-duplicate", "two different members",
    ),
    "link and file": (
        tar_of([("l", Link("x")), ("l", A), *docker_archive([A], None).items()]),
        DataCorrupt, "archive-duplicate", "two different members",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root for all that is refused, as a new one for each would take most of the time."""
    return tmp_path_factory.mktemp("refusing") / "data"


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused_leaves_the_store_as_it_was(shared_root: Path, name: str) -> None:
    data, kind, code, words = REFUSED[name]
    host = await host_at(shared_root, ExpansionLimits(ratio=100, ratio_from=1 << 20))
    try:
        await host.load(tar_of(docker_archive([layer("there")], ["app:1", "there:1"])))
        before = await host.state()
        with pytest.raises(kind, match=words) as raised:
            await host.load(data)
        assert (type(raised.value), raised.value.code) == (kind, code)
        assert await host.state() == before
    finally:
        await host.store.close()


async def test_the_same_member_twice_is_no_contradiction(host: Host) -> None:
    members = list(docker_archive([A], ["app:1"]).items())
    assert len(await host.load(tar_of(members * 2))) == 1


async def test_a_cancelled_load_leaves_nothing(host: Host) -> None:
    data = changed()
    more = threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            found = super().read(size)
            if self.tell() > 200_000:
                loop.call_soon_threadsafe(half.set)
                more.wait()
            return found

    loop, half = asyncio.get_running_loop(), asyncio.Event()
    before = await host.state()
    task = asyncio.create_task(host.loader.load(Slow(data)))
    await half.wait()
    task.cancel()
    more.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await host.state() == before


# what is saved


async def members_of(host: Host, *names: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(await host.save(*names))) as archive:
        files = {item.name: archive.extractfile(item) for item in archive if item.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


async def test_saving_as_docker_does(host: Host) -> None:
    """Recorded from Docker 28.5.2, which had the same image."""
    document = config([A, B])
    await host.load(tar_of(docker_archive([A, B], ["app:1", "reg.test/app:x"])))
    members = await members_of(host, "app:1", "reg.test/app:x")
    manifest = (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
        f'"application/vnd.oci.image.config.v1+json","digest":"{digest(document)}","size":{len(document)}}},"layers":['
        f'{{"mediaType":"{LAYER}","digest":"{digest(A)}","size":{len(A)}}},'
        f'{{"mediaType":"{LAYER}","digest":"{digest(B)}","size":{len(B)}}}]}}'
    ).encode()
    described = f'"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest(manifest)}","size":' + str(
        len(manifest)
    )
    layers = sorted((digest(data), len(data)) for data in (A, B))
    sources = ",".join(f'"{name}":{{"mediaType":"{LAYER}","size":{size},"digest":"{name}"}}' for name, size in layers)
    assert members == {
        **{f"blobs/sha256/{sha(data)}": data for data in (A, B, document, manifest)},
        "index.json": (
            '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
            f'{{{described},"annotations":{{"io.containerd.image.name":"docker.io/library/app:1",'
            '"org.opencontainers.image.ref.name":"1"}},'
            f'{{{described},"annotations":{{"io.containerd.image.name":"reg.test/app:x",'
            '"org.opencontainers.image.ref.name":"x"}}]}'
        ).encode(),
        "manifest.json": (
            f'[{{"Config":"blobs/sha256/{sha(document)}","RepoTags":["app:1","reg.test/app:x"],"Layers":['
            f'"blobs/sha256/{sha(A)}","blobs/sha256/{sha(B)}"],"LayerSources":{{{sources}}}}}]\n'
        ).encode(),
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "repositories": f'{{"app":{{"1":"{sha(B)}"}},"reg.test/app":{{"x":"{sha(B)}"}}}}\n'.encode(),
    }


async def test_what_is_saved_is_loaded_elsewhere(host: Host, tmp_path: Path) -> None:
    await host.load(tar_of(docker_archive([A, B], ["app:1"])))
    await host.load(tar_of(docker_archive([B, C], ["app:2"])))
    saved = await host.save("app:1", "app:2")
    other = await host_at(tmp_path / "other")
    try:
        loaded = await other.load(saved)
        assert shown(loaded) == [(digest(config([A, B])), ["app:1"]), (digest(config([B, C])), ["app:2"])]
        assert await other.save("app:1", "app:2") == saved
    finally:
        await other.store.close()
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        times = {item.name: item.mtime for item in archive}
    made = 1714979289  # 2024-05-06T07:08:09Z, of the configuration
    assert (times["blobs"], times[f"blobs/sha256/{sha(A)}"], times["index.json"]) == (made, made, 0)


async def test_which_names_are_saved(host: Host) -> None:
    (image,) = await host.load(tar_of(docker_archive([A], ["app:2", "app:1", "other:1"])))

    async def tags(*names: str) -> list[Any]:
        return [item["RepoTags"] for item in json.loads((await members_of(host, *names))["manifest.json"])]

    assert await tags("app") == [["app:1", "app:2"]]
    assert await tags("other:1", "app:1", "other:1") == [["other:1", "app:1"]]
    for name in (str(image.id), image.id.hex, image.id.hex[:12], f"sha256:{image.id.hex[:10]}"):
        assert await tags(name) == [None]
        assert "repositories" not in await members_of(host, name)
    assert await members_of(host) == {
        "index.json": b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}',
        "manifest.json": b"null\n",
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
    }


async def test_what_cannot_be_saved(host: Host) -> None:
    await host.load(tar_of(docker_archive([A], ["app:1"])))
    cases: list[tuple[str, type[TareError], str]] = [
        ("none:1", NotFound, "^reference does not exist"),
        ("none", NotFound, "^No such image: none"),
        ("sha256:0000", NotFound, "^No such image: sha256:0000"),
        ("None", InvalidArgument, "must be lowercase"),
    ]
    for name, kind, words in cases:
        with pytest.raises(kind, match=words):
            await host.save("app:1", name)
    assert (await host.state())["leases"] == []


async def test_saving_for_a_platform(host: Host) -> None:
    await host.load(tar_of(docker_archive([A], ["app:1"])))
    assert await host.save("app:1", platform=Platform()) == await host.save("app:1")
    with pytest.raises(NotFound, match="no suitable export target found for platform linux/arm64"):
        await host.save("app:1", platform=ARM)


async def test_an_image_without_layers(host: Host) -> None:
    await host.load(tar_of(docker_archive([], ["empty:1"])))
    members = await members_of(host, "empty:1")
    assert (json.loads(members["manifest.json"])[0]["Layers"], "repositories" in members) == ([], False)


async def test_a_layer_that_is_not_whole(host: Host) -> None:
    await host.load(tar_of(docker_archive([A, B], ["app:1"])))
    path = host.store.layers.path(Digest.of(B))
    path.write_bytes(B[:-512])
    for _ in range(2):
        with pytest.raises(DataCorrupt, match="is not there or is not whole") as raised:
            await host.save("app:1")
        assert raised.value.code == "layer-damaged"
        path.unlink(missing_ok=True)
    assert (await host.state())["leases"] == []


async def test_an_image_that_goes_while_it_is_saved(host: Host) -> None:
    (image,) = await host.load(tar_of(docker_archive([A, B], ["app:1"])))
    whole = await host.save("app:1")
    pieces = await host.saver.save(["app:1"])
    first = await anext(pieces)
    await host.store.images.remove(image.id)
    await host.store.collect()
    assert first + b"".join([piece async for piece in pieces]) == whole
    await host.store.collect()
    state = await host.state()
    assert (state["layers"], state["blobs"], state["leases"]) == ([], [], [])
