"""Pull and push with a real registry, driven by Docker's own clients."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from certificates import Authority
from engine_process import EngineProcess, UnixConnection
from faulty_registry import OCI_INDEX, OCI_MANIFEST, sha256
from registry_server import RegistryServer

pytestmark = [pytest.mark.e2e, pytest.mark.root]

BIG = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    with RegistryServer() as running:
        yield running


@pytest.fixture
def app(host: EngineProcess, registry: RegistryServer) -> Iterator[str]:
    """An image of three layers in the registry, and here; all images of the registry's go after the test."""
    name = f"{registry.address}/test/app:1"
    build(host, name, "FROM busybox\nCOPY big /big\nRUN echo hello > /hello\n", big=BIG)
    host.docker("push", "-q", name)
    yield name
    forget(host, registry)


def build(host: EngineProcess, name: str, dockerfile: str, **files: bytes) -> None:
    context = host.root / "context"
    context.mkdir(exist_ok=True)
    for file, data in files.items():
        (context / file).write_bytes(data)
    (context / "Dockerfile").write_text(dockerfile)
    host.docker("build", "-q", "-t", name, str(context))


def forget(host: EngineProcess, registry: RegistryServer) -> None:
    """Remove the registry's images here, and what the build cache has of their layers."""
    ids = host.docker("images", "-q", "--no-trunc", "--filter", f"reference={registry.address}/*/*").stdout.split()
    if ids:
        host.docker("rmi", "-f", *(one.decode() for one in set(ids)))
    host.docker("builder", "prune", "-af")


def identifier(host: EngineProcess, name: str) -> str:
    return host.docker("inspect", "-f", "{{.Id}}", name).stdout.decode().strip()


def digests(host: EngineProcess, name: str) -> list[str]:
    found: list[str] = json.loads(host.docker("inspect", "-f", "{{json .RepoDigests}}", name).stdout)
    return found


def blobs(registry: RegistryServer) -> set[str]:
    """The hex digests of what a registry has."""
    return {path.name for path in (registry.content / "docker/registry/v2/blobs/sha256").glob("*/*")}


def post(host: EngineProcess, path: str) -> list[dict[str, Any]]:
    """The messages that a pull or push gives."""
    connection = UnixConnection(host.socket)
    try:
        connection.request("POST", f"/v1.51{path}", headers={"X-Registry-Auth": "e30="})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return [{"code": answer.status, **json.loads(line)} for line in body.splitlines() if line]


def shown(messages: list[dict[str, Any]]) -> list[str]:
    """Status and identifier of each message, the bytes of transfers left out, with their layers by their order."""
    layers: dict[str, str] = {}
    lines = []
    for message in messages:
        if "progress" in message or "aux" in message:
            continue
        name = message.get("id", "")
        if "progressDetail" in message:
            name = layers.setdefault(name, f"layer{len(layers)}")
        lines.append(f"{name}: {message['status']}" if name else message["status"])
    return lines


def test_an_image_comes_back_as_it_went(host: EngineProcess, registry: RegistryServer, app: str) -> None:
    image, known = identifier(host, app), digests(host, app)
    assert len(known) == 1
    repository = app.rpartition(":")[0]
    listed = host.text("images", "--digests", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}}", repository)
    assert listed.split() == [app, known[0].partition("@")[2]]
    forget(host, registry)
    assert host.docker("inspect", app, check=False).returncode == 1

    said = shown(post(host, f"/images/create?fromImage={repository}&tag=1"))
    assert said[0] == "1: Pulling from test/app"
    assert said[1:3] == ["layer0: Already exists", "layer1: Pulling fs layer"]  # busybox is here
    assert sorted(said[3:-2]) == sorted(
        f"{layer}: {text}"
        for layer in ("layer1", "layer2")
        for text in ("Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete")
        if (layer, text) != ("layer1", "Pulling fs layer")
    )
    assert said[-2:] == [
        f"Digest: {known[0].partition('@')[2]}", f"Status: Downloaded newer image for {app}"
    ]  # fmt: skip
    assert (identifier(host, app), digests(host, app)) == (image, known)
    assert host.docker("run", "--rm", app, "cat", "/hello").stdout == b"hello\n"
    assert not {path.name for path in (host.data_root / "cache/downloads").iterdir()} & blobs(registry)

    again = host.docker("pull", app).stdout.decode().splitlines()
    assert again[-2:] == [f"Status: Image is up to date for {app}", app]


def test_what_the_registry_has_is_not_sent_again(host: EngineProcess, registry: RegistryServer, app: str) -> None:
    before, repository = len(registry.requests("PUT")), app.rpartition(":")[0]
    said = shown(post(host, f"/images/{repository}/push?tag=1"))
    assert said[0] == f"The push refers to repository [{repository}]"
    assert said[1:4] == [f"layer{number}: Preparing" for number in range(3)]
    assert sorted(said[4:7]) == [f"layer{number}: Layer already exists" for number in range(3)]
    (aux,) = [message["aux"] for message in post(host, f"/images/{repository}/push?tag=1") if "aux" in message]
    assert said[7] == f"1: digest: {aux['Digest']} size: {aux['Size']}"
    assert digests(host, app) == [f"{repository}@{aux['Digest']}"]
    assert {line.split()[1].split("/")[-2] for line in registry.requests("PUT")[before:]} == {"manifests"}

    other = f"{registry.address}/test/other"
    host.docker("tag", app, f"{other}:x")
    host.docker("tag", app, f"{other}:y")
    said = shown(post(host, f"/images/{other}/push"))  # all tags
    assert sorted(said[4:7]) == [f"layer{number}: Mounted from test/app" for number in range(3)]
    assert sorted(said[11:14]) == [f"layer{number}: Layer already exists" for number in range(3)]
    assert [line.partition(" ")[0] for line in said if "digest:" in line] == ["x:", "y:"]
    assert digests(host, app) == sorted(f"{name}@{aux['Digest']}" for name in (repository, other))


def test_digests_name_images(host: EngineProcess, registry: RegistryServer, app: str) -> None:
    (pinned,) = digests(host, app)
    image = identifier(host, app)
    for tag in ("2", "3"):
        host.docker("tag", app, f"{pinned.partition('@')[0]}:{tag}")
        host.docker("push", "-q", f"{pinned.partition('@')[0]}:{tag}")
    forget(host, registry)
    assert host.docker("pull", "-q", pinned).stdout.decode().strip() == pinned
    assert identifier(host, pinned) == image
    rows = host.docker("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}").stdout.decode()
    assert f"{pinned.partition('@')[0]} <none> {pinned.partition('@')[2]}" in rows.splitlines()
    repository = pinned.partition("@")[0]
    host.docker("pull", "-q", "--all-tags", repository)
    tags = host.docker("images", "--format", "{{.Tag}}", repository).stdout.decode().split()
    assert sorted(tags) == ["1", "2", "3"]
    assert host.docker("rmi", f"{repository}:1").stdout.decode().splitlines() == [f"Untagged: {repository}:1"]
    host.docker("rmi", f"{repository}:2")
    gone = host.docker("rmi", f"{repository}:3").stdout.decode().splitlines()
    assert gone[:3] == [f"Untagged: {repository}:3", f"Untagged: {pinned}", f"Deleted: {image}"]  # and its layers


def test_the_manifest_stays_the_one_that_the_image_came_with(host: EngineProcess, registry: RegistryServer) -> None:
    """Foreign tools read what is pushed; an OCI image with zstd layers keeps its digest wherever its blobs are."""
    app = f"{registry.address}/test/plain:1"  # no layer of it is here before it is pulled
    build(host, app, "FROM scratch\nCOPY big /big\nCOPY hello /hello\n", big=BIG, hello=b"hello")
    host.docker("push", "-q", app)
    foreign = f"{registry.address}/foreign/app:1"
    skopeo("copy", "--format", "oci", "--dest-compress-format", "zstd", "--src-tls-verify=false",
           "--dest-tls-verify=false", f"docker://{app}", f"docker://{foreign}")  # fmt: skip
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{foreign}")
    assert layer_types(raw) == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    forget(host, registry)
    host.docker("pull", "-q", foreign)
    assert digests(host, foreign) == [f"{foreign.rpartition(':')[0]}@{sha256(raw)}"]

    moved = f"{registry.address}/moved/app:1"
    host.docker("tag", foreign, moved)
    host.docker("push", "-q", moved)
    assert skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{moved}") == raw
    with RegistryServer() as second:  # has none of its blobs, and gzip is what is uploaded
        elsewhere = f"{second.address}/foreign/app:1"
        host.docker("tag", foreign, elsewhere)
        host.docker("push", "-q", elsewhere)
        found = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{elsewhere}")
        assert layer_types(found) == {"application/vnd.oci.image.layer.v1.tar+gzip"}
        assert identifier(host, elsewhere) == identifier(host, foreign)
        host.docker("rmi", elsewhere)
    forget(host, registry)


def layer_types(manifest: bytes) -> set[str]:
    return {layer["mediaType"] for layer in json.loads(manifest)["layers"]}


def skopeo(*arguments: str) -> bytes:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True).stdout


def test_the_registrys_words(host: EngineProcess, registry: RegistryServer, app: str) -> None:
    """As Docker 28.5.2 says them for the same registry."""
    repository, nothing = app.rpartition(":")[0], f"{registry.address}/test/nothing"
    unknown = "manifest unknown: manifest unknown"
    answers = {
        f"/images/create?fromImage={repository}&tag=no": f"manifest for {repository}:no not found: {unknown}",
        f"/images/create?fromImage={nothing}&tag=1": f"manifest for {nothing}:1 not found: {unknown}",
        f"/images/create?fromImage={nothing}": (
            f"repository {nothing} not found: name unknown: repository name not known to registry"
        ),
    }
    for path, words in answers.items():
        (answer,) = post(host, path)
        assert (answer["message"], "status" in answer) == (words, False)
    for path, words in {
        f"/images/{nothing}/push?tag=1": f"An image does not exist locally with the tag: {nothing}",
        f"/images/{nothing}/push": f"An image does not exist locally with the tag: {nothing}",
        f"/images/{repository}/push?tag=no": f"tag does not exist: {repository}:no",
    }.items():
        said = post(host, path)
        assert said[0]["status"] == f"The push refers to repository [{path.split('/push')[0][8:]}]"
        assert said[1:] == [{"code": 200, "errorDetail": {"message": words}, "error": words}]
    refused = host.docker("push", f"{repository}@{sha256(b'')}", check=False)
    assert b"cannot push a digest reference" in refused.stderr


def test_what_a_registry_has_is_looked_up(host: EngineProcess, app: str, client: docker_py.DockerClient) -> None:
    data = client.images.get_registry_data(app)
    assert [f"{app.rpartition(':')[0]}@{data.id}"] == digests(host, app)
    assert data.attrs["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    assert data.attrs["Descriptor"]["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert data.has_platform("linux/amd64")


def test_what_refers_to_an_image_is_listed(host: EngineProcess, registry: RegistryServer, app: str) -> None:
    """A bill of materials that somebody attached, by the tag that registries without the referrers API have."""
    name, repository = app, app.rpartition(":")[0].partition("/")[2]
    subject = digests(host, app)[0].partition("@")[2]
    assert host.tare("image", "referrers", name).stdout.decode() == f"{subject}\n"
    empty, layer = b"{}", b'{"spdxVersion": "SPDX-2.3"}'
    for blob in (empty, layer):
        registry.put_blob(repository, blob)
    kind = "application/spdx+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": len(empty), "digest": sha256(empty)},
        "layers": [{"mediaType": kind, "size": len(layer), "digest": sha256(layer)}],
    }
    document = json.dumps(manifest).encode()
    entry = {"mediaType": OCI_MANIFEST, "size": len(document), "digest": sha256(document), "artifactType": kind}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    registry.put_manifest(repository, sha256(document), OCI_MANIFEST, document)
    registry.put_manifest(repository, subject.replace(":", "-"), OCI_INDEX, json.dumps(index).encode())
    told = host.tare("image", "referrers", name).stdout.decode().splitlines()
    assert told[0] == subject
    assert told[2].split() == [kind, "-", f"{len(document)}B", sha256(document)]
    found = json.loads(host.tare("image", "referrers", "--json", "--artifact-type", "text/plain", name).stdout)
    assert found == {"subject": subject, "referrers": []}
    missing = host.tare("image", "referrers", f"{name}0", check=False)
    assert missing.returncode == 1 and b"manifest unknown" in missing.stderr


def test_docker_py_pulls_and_pushes(
    host: EngineProcess, registry: RegistryServer, app: str, client: docker_py.DockerClient
) -> None:
    repository, image = app.rpartition(":")[0], identifier(host, app)
    forget(host, registry)
    pulled = client.images.pull(repository, tag="1")
    assert pulled.id == image
    pulled.tag(f"{registry.address}/test/py", "1")
    lines = client.images.push(f"{registry.address}/test/py", tag="1", stream=True, decode=True)
    assert [line["aux"]["Tag"] for line in lines if "aux" in line] == ["1"]


def test_run_create_and_build_get_what_is_missing(host: EngineProcess, registry: RegistryServer, app: str) -> None:
    forget(host, registry)
    ran = host.docker("run", "--rm", app, "cat", "/hello")
    assert ran.stdout == b"hello\n"
    assert f"Unable to find image '{app}' locally".encode() in ran.stderr
    forget(host, registry)
    derived = f"{registry.address}/test/derived:1"
    build(host, derived, f"FROM {app}\nLABEL a=b\n")
    assert host.docker("run", "--rm", derived, "cat", "/hello").stdout == b"hello\n"


def test_a_build_pushes_what_it_has_made(host: EngineProcess, registry: RegistryServer, tmp_path: Path) -> None:
    names = [f"{registry.address}/test/pushed:{tag}" for tag in ("1", "2")]
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    built = host.tare("build", "-q", "--push", "-t", names[0], "-t", names[1], str(tmp_path)).stdout.decode().strip()
    forget(host, registry)
    for name in names:
        host.docker("pull", "-q", name)
        assert identifier(host, name) == built
    refused = host.tare("build", "-q", "--push", "-t", "127.0.0.1:1/test/pushed", str(tmp_path), check=False)
    assert (refused.returncode, b"connection refused" in refused.stderr) == (1, True), refused
    host.docker("rmi", "127.0.0.1:1/test/pushed")
    forget(host, registry)


def test_events_tell_of_pull_and_push(host: EngineProcess, app: str) -> None:
    since = host.docker("info", "-f", "{{.SystemTime}}").stdout.decode().strip()
    host.docker("pull", "-q", app)
    host.docker("push", "-q", app)
    until = host.docker("info", "-f", "{{.SystemTime}}").stdout.decode().strip()
    told = host.docker("events", "--since", since, "--until", until, "--format",
                       "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}").stdout.decode()  # fmt: skip
    repository = app.rpartition(":")[0]
    assert told.splitlines() == [f"pull {app} {repository}", f"push {app} {repository}"]


def test_layers_of_one_content_are_one(host: EngineProcess, registry: RegistryServer) -> None:
    """An image that has the same layer twice is transferred once, and comes back with both."""
    name = f"{registry.address}/test/twice:1"
    build(host, name, "FROM scratch\nCOPY a /a\nCOPY b /a\nCOPY a /a\n", a=b"1", b=b"2")
    image = identifier(host, name)
    host.docker("push", "-q", name)
    forget(host, registry)
    host.docker("pull", "-q", name)
    assert identifier(host, name) == image
    forget(host, registry)


def test_a_registry_with_users_and_tls(
    host: EngineProcess, registry: RegistryServer, app: str, client: docker_py.DockerClient, tmp_path: Path
) -> None:
    """Credentials come with each request, of a build as well; without them the registry's words are shown."""
    with RegistryServer(tls=Authority(tmp_path).issue("server"), users={"ann": "secret"}) as guarded:
        name, derived = f"{guarded.address}/private/app:1", f"{guarded.address}/private/derived:1"
        host.docker("tag", app, name)
        refused = host.docker("push", name, check=False)
        assert refused.stderr == b"no basic auth credentials\n", refused
        auths = {guarded.address: {"auth": base64.b64encode(b"ann:secret").decode()}}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        logged_in = ("--config", str(tmp_path))
        host.docker(*logged_in, "push", "-q", name)
        image = identifier(host, name)
        forget(host, guarded)
        refused = host.docker("pull", name, check=False)
        assert b"no basic auth credentials" in refused.stderr, refused
        (host.root / "context" / "Dockerfile").write_text(f"FROM {name}\nLABEL a=b\n")
        built = ("build", "-q", "-t", derived, str(host.root / "context"))
        assert b"no basic auth credentials" in host.docker(*built, check=False).stderr
        host.docker(*logged_in, *built)
        assert identifier(host, name) == image
        forget(host, guarded)
        pulled = client.images.pull(f"{guarded.address}/private/app", tag="1",
                                    auth_config={"username": "ann", "password": "secret"})  # fmt: skip
        assert pulled.id == image
        forget(host, guarded)


def test_a_name_for_several_platforms_goes_as_an_index(host: EngineProcess, registry: RegistryServer, app: str) -> None:
    repository = app.rpartition(":")[0]
    _, manifest = asked(registry, "GET", "/v2/test/app/manifests/1")
    first = json.loads(manifest)
    _, config = asked(registry, "GET", f"/v2/test/app/blobs/{first['config']['digest']}")
    foreign = json.dumps(json.loads(config) | {"architecture": "riscv64"}).encode()
    registry.put_blob("test/app", foreign)
    second = first | {"config": first["config"] | {"digest": sha256(foreign), "size": len(foreign)}}
    data = json.dumps(second).encode()
    registry.put_manifest("test/app", sha256(data), first["mediaType"], data)
    entries = [
        {
            "mediaType": first["mediaType"],
            "size": len(raw),
            "digest": sha256(raw),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for raw, architecture in ((manifest, "amd64"), (data, "riscv64"))
    ]
    listing = "application/vnd.docker.distribution.manifest.list.v2+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": listing, "manifests": entries}).encode()
    registry.put_manifest("test/app", "both", listing, index)

    for platform, conclusion in (
        ("linux/riscv64", "Downloaded newer image"),
        ("linux/amd64", "Downloaded newer image"),
        ("linux/riscv64", "Image is up to date"),
    ):
        assert f"Status: {conclusion} for {repository}:both" in host.text(
            "pull", "--platform", platform, f"{repository}:both"
        )
    pushed = host.text("push", f"{repository}:both")
    assert f"both: digest: {sha256(index)} size: {len(index)}" in pushed
    host.docker("push", "-q", "--platform", "linux/riscv64", f"{repository}:both")
    assert asked(registry, "GET", "/v2/test/app/manifests/both")[1] == data
    refused = host.docker("push", "--platform", "linux/s390x", f"{repository}:both", check=False)
    assert b"does not match the specified platform (linux/s390x)" in refused.stderr


def asked(
    registry: RegistryServer, method: str, path: str, body: bytes | None = None, media_type: str = ""
) -> tuple[str, bytes]:
    """Location and body of a registry's answer, which must be a success."""
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=60)
    docker = "application/vnd.docker.distribution.manifest"
    headers = {
        "Accept": f"{docker}.v2+json, {docker}.list.v2+json",
        "Content-Type": media_type or "application/octet-stream",
    }
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    assert answer.status < 300, (answer.status, data)
    return answer.headers.get("Location", ""), data
