"""Bad images and bad registries: a clear error, and the store as it was."""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine_process import EngineProcess
from faulty_registry import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Blob,
    FaultyRegistry,
    layer_tar,
    sha256,
)
from file_events import IN_MOVED_TO, watching

pytestmark = [pytest.mark.e2e, pytest.mark.root]

GOOD = layer_tar("good", b"good")
BIG = layer_tar("big", bytes(range(256)) * 8000)
NOWHERE = "sha256:" + "1" * 64


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as running:
        yield running


def state(host: EngineProcess) -> dict[str, Any]:
    """The images, and the files of the store."""
    files = {
        name: sorted(path.name for path in (host.data_root / name).iterdir())
        for name in ("blobs/sha256", "layers", "staging")
    }
    rows = host.text("images", "-a", "--format", "{{.ID}} {{.Repository}} {{.Tag}} {{.Digest}}").splitlines()
    return {"images": sorted(rows), **files}  # the client shows the names of one image in any order


def layer(registry: FaultyRegistry, manifest: dict[str, Any], number: int) -> Blob:
    return registry.blobs[manifest["layers"][number]["digest"]]


def wrong_manifest(registry: FaultyRegistry) -> str:
    manifest = registry.put_image("test/app:1", [GOOD])
    registry.manifests[f"test/app/manifests/{NOWHERE}"] = (OCI_MANIFEST, json.dumps(manifest).encode())
    return f"@{NOWHERE}"


def truncated(registry: FaultyRegistry) -> str:
    blob = layer(registry, registry.put_image("test/app:1", [GOOD, BIG]), 1)
    blob.data = blob.data[:-10]
    return ":1"


def oversized(registry: FaultyRegistry) -> str:
    blob = layer(registry, registry.put_image("test/app:1", [GOOD, BIG]), 1)
    blob.data += b"more"
    return ":1"


def damaged(registry: FaultyRegistry) -> str:
    blob = layer(registry, registry.put_image("test/app:1", [GOOD, BIG]), 1)
    blob.data = blob.data[:50] + bytes([blob.data[50] ^ 255]) + blob.data[51:]
    return ":1"


def other_layer(registry: FaultyRegistry) -> str:
    registry.put_image("test/app:1", [GOOD, BIG], diff_ids=[sha256(GOOD), NOWHERE])
    return ":1"


def fewer_layers(registry: FaultyRegistry) -> str:
    registry.put_image("test/app:1", [GOOD, BIG], diff_ids=[sha256(GOOD)])
    return ":1"


def bomb(registry: FaultyRegistry) -> str:
    zeros = gzip.compress(bytes(1 << 26), 1, mtime=0) * 5
    manifest = registry.put_image("test/app:1", [GOOD, BIG])
    manifest["layers"][1] |= {"digest": sha256(zeros), "size": len(zeros)}
    registry.blobs[sha256(zeros)] = Blob(zeros)
    registry.put_manifest("test/app:1", OCI_MANIFEST, manifest)
    return ":1"


def no_gzip(registry: FaultyRegistry) -> str:
    manifest = registry.put_image("test/app:1", [GOOD, BIG])
    data = b"\x1f\x8b\x08 not gzip"
    manifest["layers"][1] |= {"digest": sha256(data), "size": len(data)}
    registry.blobs[sha256(data)] = Blob(data)
    registry.put_manifest("test/app:1", OCI_MANIFEST, manifest)
    return ":1"


def other_platform(registry: FaultyRegistry) -> str:
    manifest = registry.put_image("test/app:arm", [GOOD], config={"architecture": "arm64"})
    size = len(json.dumps(manifest).encode())
    entry = {
        "mediaType": OCI_MANIFEST,
        "size": size,
        "digest": sha256(json.dumps(manifest).encode()),
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    registry.put_manifest("test/app:1", OCI_INDEX, index)
    return ":1"


def windows(registry: FaultyRegistry) -> str:
    registry.put_image("test/app:1", [GOOD], config={"os": "windows"})
    return ":1"


def unknown_layer(registry: FaultyRegistry) -> str:
    registry.put_image("test/app:1", [GOOD], media_type="application/vnd.example.layer")
    return ":1"


def artifact(registry: FaultyRegistry) -> str:
    registry.put_image("test/app:1", [GOOD], config_type="application/vnd.example.config")
    return ":1"


def schema_1(registry: FaultyRegistry) -> str:
    media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    registry.put_manifest("test/app:1", media_type, {"schemaVersion": 1, "fsLayers": [], "history": []})
    return ":1"


def no_configuration(registry: FaultyRegistry) -> str:
    manifest = registry.put_image("test/app:1", [GOOD])
    data = b"[]"
    manifest["config"] = {"mediaType": OCI_CONFIG, "size": len(data), "digest": sha256(data)}
    registry.blobs[sha256(data)] = Blob(data)
    registry.put_manifest("test/app:1", OCI_MANIFEST, manifest)
    return ":1"


def no_blob(registry: FaultyRegistry) -> str:
    manifest = registry.put_image("test/app:1", [GOOD, BIG])
    del registry.blobs[manifest["layers"][1]["digest"]]
    return ":1"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (wrong_manifest, "digest"),
        (truncated, "truncated: the registry sent"),
        (oversized, "the registry sends more than"),
        (damaged, "filesystem layer verification failed for digest sha256:"),
        (other_layer, "what was transferred is not the layer that the image's configuration names"),
        (fewer_layers, "layers from manifest don't match image configuration"),
        (bomb, "it unpacks to 2"),
        (no_gzip, "damaged gzip stream"),
        (other_platform, "no matching manifest for linux/amd64 in the manifest list entries"),
        (windows, 'image operating system "windows" cannot be used on this platform'),
        (unknown_layer, "unsupported media type application/vnd.example.layer"),
        (artifact, "unsupported media type application/vnd.example.config"),
        (schema_1, "schema 1 is not supported"),
        (no_configuration, "invalid image configuration"),
        (no_blob, "unknown"),
    ],
)
def test_bad_images_leave_nothing(
    host: EngineProcess, registry: FaultyRegistry, make: Callable[[FaultyRegistry], str], words: str
) -> None:
    before = state(host)
    name = f"{registry.address}/test/app{make(registry)}"
    refused = host.docker("pull", name, check=False)
    assert (refused.returncode, words in refused.stderr.decode()) == (1, True), refused
    assert state(host) == before


def test_a_broken_connection_is_taken_up_where_it_broke(host: EngineProcess, registry: FaultyRegistry) -> None:
    manifest = registry.put_image("test/app:1", [BIG])
    blob = layer(registry, manifest, 0)
    blob.cut = 5000
    name = f"{registry.address}/test/app:1"
    host.docker("pull", "-q", name)
    asked = [line.partition(" bytes=")[2] for line in registry.requests if manifest["layers"][0]["digest"] in line]
    assert asked == ["", "5000-"]
    host.docker("rmi", name)


def test_what_failed_is_not_downloaded_again(host: EngineProcess, registry: FaultyRegistry) -> None:
    """The good layer stays in the cache of downloads when its neighbour is bad, and is taken from there later."""
    manifest = registry.put_image("test/app:1", [layer_tar("kept", b"kept"), BIG])
    good, bad = (manifest["layers"][number]["digest"] for number in (0, 1))
    sound, registry.blobs[bad] = registry.blobs[bad], Blob(b"", gate=threading.Event())
    name = f"{registry.address}/test/app:1"
    arrived = host.data_root / "cache/downloads" / good.removeprefix("sha256:")
    arrived.parent.mkdir(exist_ok=True)
    with ThreadPoolExecutor(1) as threads, watching(arrived.parent, IN_MOVED_TO) as events:
        pulled = threads.submit(host.docker, "pull", name, check=False)
        while not arrived.exists():
            events.wait()
        gate = registry.blobs[bad].gate
        assert gate is not None
        gate.set()
        assert pulled.result().returncode == 1
    registry.blobs[bad] = sound
    host.docker("pull", "-q", name)
    assert sum(good in line for line in registry.requests) == 1
    host.docker("rmi", name)


def test_two_who_want_the_same_image_share_the_work(host: EngineProcess, registry: FaultyRegistry) -> None:
    shared = layer_tar("shared", b"shared")
    manifest = registry.put_image("test/app:1", [shared])
    registry.put_image("test/app:2", [shared])
    gate = layer(registry, manifest, 0).gate = threading.Event()
    names = [f"{registry.address}/test/app:{tag}" for tag in ("1", "2")]
    with ThreadPoolExecutor(2) as threads:
        pulled = [threads.submit(host.docker, "pull", "-q", name) for name in names]
        registry.wait_for(f"GET /v2/test/app/blobs/{manifest['config']['digest']}", 1)
        registry.wait_for("/manifests/", 2)
        gate.set()
        for one in pulled:
            one.result()
    assert sum(manifest["layers"][0]["digest"] in line for line in registry.requests) == 1
    host.docker("rmi", *names)


def test_a_pull_ends_with_its_client(host: EngineProcess, registry: FaultyRegistry) -> None:
    before = state(host)
    manifest = registry.put_image("test/app:1", [GOOD, layer_tar("late", b"late")])
    layer(registry, manifest, 1).gate = threading.Event()
    client = host.start_docker("pull", f"{registry.address}/test/app:1")
    registry.wait_for(manifest["layers"][1]["digest"])
    client.kill()
    client.communicate()
    ended = host.docker("pull", f"{registry.address}/test/app:none", check=False)  # the engine is not busy with it
    assert b"not found" in ended.stderr
    layer(registry, manifest, 1).gate = None
    host.docker("pull", "-q", f"{registry.address}/test/app:1")
    host.docker("rmi", f"{registry.address}/test/app:1")
    assert state(host) == before


def test_what_a_registry_claims_of_layers_that_are_here_is_not_believed(
    host: EngineProcess, registry: FaultyRegistry
) -> None:
    """A manifest that names other blobs for an image that is here must not come into what is pushed later."""
    manifest = registry.put_image("test/app:1", [GOOD, BIG])
    names = [f"{registry.address}/test/app:1", f"{registry.address}/other/app:1"]
    claimed = [layer | {"digest": NOWHERE} for layer in manifest["layers"]]
    registry.put_manifest("other/app:1", OCI_MANIFEST, manifest | {"layers": claimed})
    for name in names:
        host.docker("pull", "-q", name)
    with contextlib.closing(sqlite3.connect(f"file:{host.data_root}/tare.db?mode=ro", uri=True)) as database:
        query = "SELECT DISTINCT repository, digest FROM layer_blobs WHERE repository LIKE ?"
        known = set(database.execute(query, (f"{registry.address}/%",)).fetchall())
    assert known == {(names[0].rpartition(":")[0], layer["digest"]) for layer in manifest["layers"]}
    host.docker("rmi", *names)


def test_an_image_for_another_platform_is_pulled_with_a_warning(host: EngineProcess, registry: FaultyRegistry) -> None:
    registry.put_image("test/app:1", [GOOD], config={"architecture": "arm64"})
    name = f"{registry.address}/test/app:1"
    said = host.text("pull", "--platform", "linux/amd64", name)
    assert (
        f"WARNING: image with reference {name} was found but its platform (linux/arm64) does not match the specified "
        "platform (linux/amd64)"
    ) in said
    host.docker("rmi", name)


def test_the_image_for_a_platform_is_chosen(host: EngineProcess, registry: FaultyRegistry, tmp_path: Path) -> None:
    entries = []
    for architecture in ("amd64", "arm64"):
        manifest = registry.put_image(f"test/app:{architecture}", [GOOD], config={"architecture": architecture})
        data = json.dumps(manifest).encode()
        platform = {"os": "linux", "architecture": architecture}
        entries.append({"mediaType": OCI_MANIFEST, "size": len(data), "digest": sha256(data), "platform": platform})
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    digest = registry.put_manifest("test/app:1", OCI_INDEX, index)
    name = f"{registry.address}/test/app:1"
    for platform in ("linux/arm64", "linux/amd64"):
        host.docker("pull", "-q", "--platform", platform, name)
        assert host.text("inspect", "-f", "{{.Os}}/{{.Architecture}} {{.RepoDigests}}", name) == (
            f"{platform} [{registry.address}/test/app@{digest}]"
        )
    ids = host.text("images", "-aq", "--no-trunc", f"{registry.address}/test/app").split()
    host.docker("rmi", "-f", *ids)

    host.docker("pull", "-q", name)  # a build for the other platform gets the other image
    (tmp_path / "Dockerfile").write_text(f"FROM --platform=linux/arm64 {name}\nLABEL a=b\n")
    built = host.text("build", "-q", str(tmp_path))
    assert host.text("inspect", "-f", "{{.Architecture}}", built) == "arm64"
    host.docker("rmi", "-f", built, *ids)
