"""Manifests and indexes: which are read, which are refused, which platform is chosen."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hostile_registry import HostileRegistry, fixed, hostile_registry, refused
from registry_parts import ClientMaker, repository_name
from tare.errors import DataCorrupt, NotFound, TareError, Unsupported
from tare.model import Digest
from tare.model.platform import Platform
from tare.oci.image import (
    DOCKER_CONFIG,
    DOCKER_FOREIGN,
    DOCKER_LAYER_GZIP,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    Index,
    Manifest,
)
from tare.registry.manifests import (
    GZIP,
    PLAIN,
    SIZE_LIMIT,
    ZSTD,
    RawManifest,
    check_image,
    choose,
    compression,
    effective_type,
    parse,
)
from tare.registry.repository import Repository
from tare.registry.settings import RegistrySettings

HEX = "a" * 64
DIGEST = f"sha256:{HEX}"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOMAIN = "registry.test"


def part(media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 3, **more}


def manifest(media_type: str = MEDIA_TYPE_MANIFEST, config: str = MEDIA_TYPE_CONFIG, **more: Any) -> dict[str, Any]:
    layers = [part(MEDIA_TYPE_LAYER_GZIP)]
    return {"schemaVersion": 2, "mediaType": media_type, "config": part(config), "layers": layers, **more}


def index(*platforms: str | None, media_type: str = MEDIA_TYPE_INDEX) -> dict[str, Any]:
    entries = []
    for number, text in enumerate(platforms):
        entry = {**part(MEDIA_TYPE_MANIFEST), "size": number}
        if text is not None:
            os, architecture, *variant = text.split("/")
            entry["platform"] = {"os": os, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
        entries.append(entry)
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}


def raw(document: object, media_type: str = MEDIA_TYPE_MANIFEST) -> RawManifest:
    return RawManifest.of(media_type, json.dumps(document).encode())


@pytest.mark.parametrize("media_type", [MEDIA_TYPE_MANIFEST, DOCKER_MANIFEST])
@pytest.mark.parametrize("config", [MEDIA_TYPE_CONFIG, DOCKER_CONFIG])
def test_manifests(media_type: str, config: str) -> None:
    found = parse(raw(manifest(media_type, config), media_type))
    assert isinstance(found, Manifest)
    check_image(found)
    assert (found.media_type, found.config.digest, found.layers[0].size) == (media_type, DIGEST, 3)


def test_a_manifest_that_does_not_name_its_type() -> None:
    document = manifest()
    del document["mediaType"]
    found = parse(raw(document))
    assert found.media_type == MEDIA_TYPE_MANIFEST


@pytest.mark.parametrize("media_type", [MEDIA_TYPE_INDEX, DOCKER_LIST])
def test_indexes(media_type: str) -> None:
    found = parse(raw(index("linux/amd64", media_type=media_type), media_type))
    assert isinstance(found, Index)
    assert len(found.manifests) == 1


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "Expected `object`"),
        ({**manifest(), "schemaVersion": 1}, "schemaVersion is 1, expected 2"),
        ({**manifest(), "mediaType": DOCKER_MANIFEST}, f"it calls itself {DOCKER_MANIFEST}"),
        ({**manifest(), "manifests": []}, "could be read as a manifest and as an index"),
        ({**manifest(), "fsLayers": []}, "could be read as a manifest and as an index"),
        ({"schemaVersion": 2, "layers": []}, "without config or layers"),
        (manifest(config="x") | {"layers": [{**part("x"), "digest": "md5:1"}]}, "invalid digest md5:1"),
        (manifest() | {"config": {**part("x"), "size": -1}}, "has the size -1"),
        (manifest() | {"layers": "none"}, "Expected `array | null`"),
    ],
)
def test_malformed(document: object, words: str) -> None:
    with pytest.raises(DataCorrupt) as caught:
        parse(raw(document))
    assert caught.value.code == "manifest-malformed"
    assert words in caught.value.message


def test_bytes_that_are_no_json() -> None:
    with pytest.raises(DataCorrupt):
        parse(RawManifest.of(MEDIA_TYPE_MANIFEST, b"<html>"))


def test_an_index_that_is_none() -> None:
    with pytest.raises(DataCorrupt, match="an index without manifests"):
        parse(raw({"schemaVersion": 2}, MEDIA_TYPE_INDEX))


def test_schema_1_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="image manifest version 2, schema 1 is not supported"):
        parse(raw({"schemaVersion": 1}, SCHEMA_1))


def test_unknown_types_are_refused_by_name() -> None:
    with pytest.raises(Unsupported) as caught:
        parse(raw({}, "application/vnd.example.thing+json"))
    assert caught.value.message == "unsupported media type application/vnd.example.thing+json"


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (manifest(config="application/vnd.cncf.helm.config.v1+json"), "application/vnd.cncf.helm.config.v1+json"),
        (manifest(config="application/vnd.oci.empty.v1+json"), "application/vnd.oci.empty.v1+json"),
        (manifest() | {"layers": [part("application/x-thing")]}, "application/x-thing"),
    ],
)
def test_what_is_no_image(document: object, named: str) -> None:
    found = parse(raw(document))
    assert isinstance(found, Manifest)
    with pytest.raises(Unsupported) as caught:
        check_image(found)
    assert (caught.value.message, caught.value.code) == (f"unsupported media type {named}", "unsupported-media-type")


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        ("application/vnd.oci.image.layer.v1.tar", PLAIN),
        ("application/vnd.oci.image.layer.v1.tar+gzip", GZIP),
        ("application/vnd.oci.image.layer.v1.tar+zstd", ZSTD),
        ("application/vnd.docker.image.rootfs.diff.tar", PLAIN),
        (DOCKER_LAYER_GZIP, GZIP),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", ZSTD),
        (DOCKER_FOREIGN + ".gzip", GZIP),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", ZSTD),
    ],
)
def test_compressions(media_type: str, expected: str) -> None:
    assert compression(media_type) == expected


@pytest.mark.parametrize(
    ("content_type", "document", "expected"),
    [
        ("Application/VND.oci.image.index.v1+json; charset=utf-8", {}, MEDIA_TYPE_INDEX),
        ("application/json", manifest(DOCKER_MANIFEST), DOCKER_MANIFEST),
        ("", {"schemaVersion": 2, "manifests": []}, MEDIA_TYPE_INDEX),
        ("text/plain", {"schemaVersion": 2, "layers": []}, MEDIA_TYPE_MANIFEST),
        ("application/json", {"schemaVersion": 1, "fsLayers": []}, SCHEMA_1.replace("prettyjws", "json")),
        ("application/json", {}, "application/json"),
        ("text/html", manifest(), "text/html"),
    ],
)
def test_types_of_lazy_servers(content_type: str, document: object, expected: str) -> None:
    assert effective_type(content_type, json.dumps(document).encode()) == expected


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v2", "linux/amd64"], 1),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/amd64/v3", ["linux/amd64/v1"], 0),
        ("linux/amd64", ["linux/386"], 0),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm64/v8", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], 1),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], 1),
        ("linux/amd64", ["unknown/unknown", "linux/x86_64"], 1),
        ("linux/amd64", [None, "linux/amd64"], 1),
        ("linux/amd64", ["linux/arm64", None], 1),
        ("windows/amd64", ["linux/amd64", "windows/amd64"], 1),
        ("linux/riscv64", ["linux/amd64", "linux/riscv64"], 1),
    ],
)  # fmt: skip
def test_platforms(wanted: str, offered: list[str | None], chosen: int) -> None:
    found = parse(raw(index(*offered), MEDIA_TYPE_INDEX))
    assert isinstance(found, Index)
    assert choose(found, Platform.parse(wanted)).size == chosen


@pytest.mark.parametrize("offered", [[], ["linux/s390x"], ["linux/arm64/v9"], ["unknown/unknown"]])
def test_no_platform(offered: list[str | None]) -> None:
    found = parse(raw(index(*offered), MEDIA_TYPE_INDEX))
    assert isinstance(found, Index)
    with pytest.raises(NotFound) as caught:
        choose(found, Platform.parse("linux/arm64/v8"))
    assert caught.value.message == "no matching manifest for linux/arm64/v8 in the manifest list entries"


@pytest.fixture
async def server() -> AsyncIterator[HostileRegistry]:
    async with hostile_registry() as running:
        yield running


@pytest.fixture
def repository(server: HostileRegistry, make_client: ClientMaker) -> Repository:
    return make_client({DOMAIN: RegistrySettings(endpoint=server.url)}).repository(repository_name(DOMAIN))


async def fails(repository: Repository, what: str) -> TareError:
    with pytest.raises(TareError) as caught:
        await repository.manifest(what)
    return caught.value


async def test_a_manifest_with_another_digest(server: HostileRegistry, repository: Repository) -> None:
    sent = raw(manifest())
    server.on("GET", f"/v2/app/one/manifests/{DIGEST}", fixed(200, sent.data, Content_Type=MEDIA_TYPE_MANIFEST))
    error = await fails(repository, DIGEST)
    assert isinstance(error, DataCorrupt)
    assert error.message == (
        f"manifest verification failed for digest {DIGEST}: received {len(sent.data)} bytes with {sent.digest}"
    )
    header = {"Content_Type": MEDIA_TYPE_MANIFEST, "Docker_Content_Digest": DIGEST}
    server.on("GET", "/v2/app/one/manifests/one", fixed(200, sent.data, **header))
    assert (await fails(repository, "one")).code == "manifest-digest"


async def test_a_manifest_that_is_too_large(server: HostileRegistry, repository: Repository) -> None:
    server.on("GET", "/v2/app/one/manifests/one", fixed(200, bytes(SIZE_LIMIT + 1), Content_Type=MEDIA_TYPE_MANIFEST))
    error = await fails(repository, "one")
    assert isinstance(error, DataCorrupt)
    assert error.message == f"manifest registry.test/app/one:one: more than {SIZE_LIMIT} bytes"


async def test_what_is_asked_for(server: HostileRegistry, repository: Repository) -> None:
    sent = raw(manifest())
    server.on("GET", "/v2/app/one/manifests/one", fixed(200, sent.data, Content_Type=MEDIA_TYPE_MANIFEST))
    assert await repository.manifest("one") == sent
    accepted = server.asked[-1].headers["Accept"].split(", ")
    assert accepted == [MEDIA_TYPE_INDEX, DOCKER_LIST, MEDIA_TYPE_MANIFEST, DOCKER_MANIFEST]


async def test_a_head_without_digest(server: HostileRegistry, repository: Repository) -> None:
    sent = raw(manifest())
    answer = fixed(200, sent.data, Content_Type=MEDIA_TYPE_MANIFEST)
    server.on("HEAD", "/v2/app/one/manifests/one", answer)
    server.on("GET", "/v2/app/one/manifests/one", answer)
    assert await repository.has_manifest("one") == sent.descriptor


async def test_a_registry_that_stores_something_else(server: HostileRegistry, repository: Repository) -> None:
    sent = raw(manifest())
    server.on("PUT", "/v2/app/one/manifests/one", fixed(201, Docker_Content_Digest=DIGEST))
    with pytest.raises(DataCorrupt, match="stored"):
        await repository.put_manifest("one", sent)
    assert server.asked[-1].body == sent.data
    assert server.asked[-1].headers["Content-Type"] == MEDIA_TYPE_MANIFEST


async def test_tags_come_in_pages(server: HostileRegistry, repository: Repository) -> None:
    link = '</v2/app/one/tags/list?n=1000&last=b>; rel="next"'
    first = fixed(200, b'{"name": "app/one", "tags": ["a", "b"]}', Link=link)
    server.on("GET", "/v2/app/one/tags/list", first, fixed(200, b'{"tags": ["c"]}'), fixed(200, b'{"tags": null}'))
    assert await repository.tags() == ["a", "b", "c"]
    assert server.asked[-1].path == "/v2/app/one/tags/list?n=1000&last=b"
    assert await repository.tags() == []


async def test_referrers_by_the_api(server: HostileRegistry, repository: Repository) -> None:
    entries = [part(MEDIA_TYPE_MANIFEST, artifactType="sbom"), part(MEDIA_TYPE_MANIFEST, artifactType="signature")]
    document = json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": entries}).encode()
    server.on("GET", f"/v2/app/one/referrers/{DIGEST}", fixed(200, document, Content_Type=MEDIA_TYPE_INDEX))
    assert len((await repository.referrers(Digest(HEX))).manifests) == 2
    (found,) = (await repository.referrers(Digest(HEX), "sbom")).manifests
    assert found.artifact_type == "sbom"
    assert server.asked[-1].path.endswith("?artifactType=sbom")


async def test_referrers_by_the_tag(server: HostileRegistry, repository: Repository) -> None:
    unknown = refused(404, "MANIFEST_UNKNOWN", "manifest unknown", "x")
    server.on("GET", f"/v2/app/one/manifests/sha256-{HEX}", unknown)
    assert (await repository.referrers(Digest(HEX))).manifests == []
    document = index("linux/amd64")
    answer = fixed(200, json.dumps(document).encode(), Content_Type=MEDIA_TYPE_INDEX)
    server.on("GET", f"/v2/app/one/manifests/sha256-{HEX}", answer)
    assert len((await repository.referrers(Digest(HEX))).manifests) == 1
