"""``tare registry serve`` with clients of other hands, the specification's pull category, and those who mean ill."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import json
import signal
import ssl
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from certificates import Authority
from engine_process import EngineProcess, add_file
from file_events import IN_DELETE, watching
from registry_server import RegistryServer
from served_registry import SECONDS, ServedRegistry
from tare.archive.compression import decompress

pytestmark = [pytest.mark.root, pytest.mark.e2e]

OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
NOWHERE = f"sha256:{'0' * 64}"
LARGE = 24 << 20  # bytes: more than the buffers of a connection hold


@pytest.fixture(scope="module")
def images(engine: EngineProcess) -> Iterator[EngineProcess]:
    """The session's engine with images of several registries."""
    names = ["serve-app:1", "serve-app:2", "serve.example:5000/team/app:1", "serve-team/app:1"]
    for number, name in enumerate(names):
        engine.docker("import", "-c", f"LABEL number={number}", "-", name, stdin=_tar(f"{number}".encode() * 3000))
    engine.tare("tag", "serve-app:2", "serve-app:two")
    yield engine
    engine.docker("rmi", *names, "serve-app:two")


@pytest.fixture(scope="module")
def plain(images: EngineProcess) -> Iterator[ServedRegistry]:
    patterns = [f"--image={pattern}" for pattern in ("serve-*", "serve-*/*", "serve.example*/*/*")]
    with ServedRegistry(images, *patterns, "--no-virtual") as registry:
        yield registry


def _tar(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add_file(archive, "data", data)
    return buffer.getvalue()


def _image_id(engine: EngineProcess, name: str) -> str:
    return engine.text("image", "inspect", "-f", "{{.Id}}", name)


def _layers(engine: EngineProcess, name: str) -> list[str]:
    return list(json.loads(engine.text("image", "inspect", "-f", "{{json .RootFS.Layers}}", name)))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def skopeo(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["skopeo", *arguments], capture_output=True, timeout=SECONDS, check=False)


def test_skopeo_copies_an_image_bit_by_bit(images: EngineProcess, plain: ServedRegistry, tmp_path: Path) -> None:
    copied = skopeo("copy", "--src-tls-verify=false", f"docker://{plain.address}/serve-app:1", f"dir:{tmp_path}/copy")
    assert copied.returncode == 0, copied.stderr
    shown = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{plain.address}/serve-app:1").stdout)
    assert shown["Layers"] == _layers(images, "serve-app:1"), "uncompressed layers are named by their diffIDs"
    assert shown["RepoTags"] == ["1", "2", "two"] and shown["Labels"] == {"number": "0"}
    manifest = (tmp_path / "copy" / "manifest.json").read_bytes()
    assert _digest(manifest) == shown["Digest"]
    config = json.loads(manifest)["config"]["digest"]
    assert config == _image_id(images, "serve-app:1")
    for digest in (config, *shown["Layers"]):
        assert _digest((tmp_path / "copy" / digest.partition(":")[2]).read_bytes()) == digest
    visit = plain.wait_for_visit(kind="manifest", object="serve-app:1", status=200)
    assert visit["agent"].startswith("skopeo/") and visit["digest"] == shown["Digest"] and visit["whole"]


def test_a_push_is_refused_with_the_reason(plain: ServedRegistry, tmp_path: Path) -> None:
    assert skopeo("copy", "--src-tls-verify=false", f"docker://{plain.address}/serve-app:1", f"dir:{tmp_path}/copy")
    pushed = skopeo("copy", "--dest-tls-verify=false", f"dir:{tmp_path}/copy", f"docker://{plain.address}/serve-new:1")
    assert pushed.returncode == 1
    assert b"this registry is read-only" in pushed.stderr and b"push to another registry" in pushed.stderr


def test_pulling_as_the_specification_has_it(images: EngineProcess, plain: ServedRegistry) -> None:
    base = plain.ask("/v2/")
    assert (base.status, base.headers["Docker-Distribution-Api-Version"]) == (200, "registry/2.0")
    manifest = plain.ask("/v2/serve-app/manifests/1")
    digest = manifest.headers["Docker-Content-Digest"]
    assert manifest.status == 200 and manifest.headers["Content-Type"] == OCI and _digest(manifest.body) == digest
    for method in ("GET", "HEAD"):
        for name in ("1", digest):
            again = plain.ask(f"/v2/library/serve-app/manifests/{name}", method)
            assert again.status == 200 and again.headers["Docker-Content-Digest"] == digest
            assert again.headers["Content-Length"] == str(len(manifest.body))
            assert again.body == (manifest.body if method == "GET" else b"")
    config, (layer,) = manifest.document["config"], manifest.document["layers"]
    assert config["digest"] == _image_id(images, "serve-app:1")
    for blob in (config, layer):
        path = f"/v2/serve-app/blobs/{blob['digest']}"
        whole, head = plain.ask(path), plain.ask(path, "HEAD")
        assert whole.status == head.status == 200 and _digest(whole.body) == blob["digest"]
        assert len(whole.body) == blob["size"] == int(head.headers["Content-Length"])
        assert head.headers["Docker-Content-Digest"] == blob["digest"] and head.headers["Accept-Ranges"] == "bytes"
    size = layer["size"]
    for wanted, part in (("0-9", whole.body[:10]), ("100-", whole.body[100:]), ("-7", whole.body[-7:])):
        answer = plain.ask(path, Range=f"bytes={wanted}")
        assert answer.status == 206 and answer.body == part
        assert answer.headers["Content-Range"].endswith(f"/{size}")
    for wanted in (f"{size}-", "5-2", "x-y", "0-1,3-4"):
        answer = plain.ask(path, Range=f"bytes={wanted}")
        assert answer.status == 416 and answer.headers["Content-Range"] == f"bytes */{size}"
    docker = plain.ask("/v2/serve-app/manifests/1", Accept=DOCKER)
    assert docker.headers["Content-Type"] == docker.document["mediaType"] == DOCKER
    by_digest = plain.ask(f"/v2/serve-app/manifests/{docker.headers['Docker-Content-Digest']}", Accept=OCI)
    assert by_digest.body == docker.body, "a digest names one document, whatever the client would rather have"
    referrers = plain.ask(f"/v2/serve-app/referrers/{digest}?artifactType=a/b")
    assert referrers.document == {"schemaVersion": 2, "mediaType": referrers.headers["Content-Type"], "manifests": []}
    assert referrers.headers["OCI-Filters-Applied"] == "artifactType"


def test_what_there_is(plain: ServedRegistry) -> None:
    names = ["library/serve-app", "serve-app", "serve-team/app", "serve.example_5000/team/app"]
    assert plain.ask("/v2/_catalog").document == {"repositories": names}
    assert plain.ask("/v2/serve-app/tags/list").document == {"name": "serve-app", "tags": ["1", "2", "two"]}
    first = plain.ask("/v2/_catalog?n=3")
    assert first.document == {"repositories": names[:3]}
    link = first.headers["Link"]
    assert link.endswith('; rel="next"')
    assert plain.ask(link[1 : link.index(">")]).document == {"repositories": names[3:]}
    mirrored = plain.ask("/v2/team/app/manifests/1?ns=serve.example:5000")
    assert mirrored.body == plain.ask("/v2/serve.example_5000/team/app/manifests/1").body
    assert plain.ask("/v2/serve-app/manifests/1?ns=other.example").code == "MANIFEST_UNKNOWN"


def test_what_is_not_there(images: EngineProcess, plain: ServedRegistry) -> None:
    layer = _layers(images, "serve-app:1")[0]
    images.docker("import", "-", "hidden-app:1", stdin=_tar(b"hidden"))
    hidden = _layers(images, "hidden-app:1")[0]
    for path, status, code in (
        ("/v2/serve-app/manifests/3", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/serve-app/manifests/{NOWHERE}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/serve-app/blobs/{NOWHERE}", 404, "BLOB_UNKNOWN"),
        (f"/v2/serve-team/app/blobs/{layer}", 404, "BLOB_UNKNOWN"),
        (f"/v2/serve-app/blobs/{hidden}", 404, "BLOB_UNKNOWN"),
        ("/v2/hidden-app/manifests/latest", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/hidden-app/blobs/{hidden}", 404, "BLOB_UNKNOWN"),
        ("/v2/hidden-app/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/distroless/static/manifests/12", 404, "MANIFEST_UNKNOWN"),
        ("/v2/SERVE-APP/manifests/1", 400, "NAME_INVALID"),
        ("/v2/serve-app/blobs/sha256:1", 400, "DIGEST_INVALID"),
        ("/v2/_catalog?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/serve-app", 404, "UNSUPPORTED"),
    ):
        answer = plain.ask(path)
        assert (answer.status, answer.code) == (status, code), path
    images.docker("rmi", "hidden-app:1")
    for method, path in (
        ("POST", "/v2/serve-app/blobs/uploads/"),
        ("PATCH", "/v2/serve-app/blobs/uploads/1"),
        ("PUT", "/v2/serve-app/manifests/1"),
        ("DELETE", "/v2/serve-app/manifests/1"),
        ("DELETE", f"/v2/serve-app/blobs/{layer}"),
    ):
        answer = plain.ask(path, method)
        assert (answer.status, answer.code, answer.headers["Allow"]) == (405, "UNSUPPORTED", "GET, HEAD")


def test_hostile_requests_get_an_answer_and_nothing_else(plain: ServedRegistry) -> None:
    for path in (
        "/v2/../../../../etc/passwd",
        "/v2/%2e%2e/%2e%2e/blobs/..%2f..%2fetc%2fpasswd",
        "/v2/serve-app/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd",
        "/v2/serve-app/manifests/%00",
        "/v2/serve-app%0d%0aX-Injected:%201/manifests/1",
        "//v2//",
    ):
        answer = plain.raw(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        assert answer.split(b" ")[1] in (b"400", b"404"), answer
        assert b"root:" not in answer and b"\r\nX-Injected" not in answer
    for nonsense in (
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Large: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /v2/" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET /v2/ HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ):
        assert plain.raw(nonsense).startswith(b"HTTP/1.0 400") or not plain.raw(nonsense)
    assert plain.ask("/v2/serve-app/tags/list", User_Agent="evil\u0085\u009b2J/1").status == 200
    assert plain.wait_for_visit(agent="evil??2J/1")


def test_who_is_fetching_an_image_gets_it_to_its_end(images: EngineProcess) -> None:
    """The image goes in the middle, while its client does not read: others are served, and all of it still comes."""
    data = _tar(b"".join(hashlib.sha256(number.to_bytes(4)).digest() for number in range(LARGE // 32)))
    images.docker("import", "-", "serve-large:1", stdin=data)
    (layer,) = _layers(images, "serve-large:1")
    file = images.data_root / "layers" / f"{layer.partition(':')[2]}.tar"
    with watching(file.parent, IN_DELETE) as events, ServedRegistry(images) as registry:
        manifest = registry.ask("/v2/serve-large/manifests/1")
        digest = manifest.headers["Docker-Content-Digest"]
        connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=SECONDS)
        connection.request("GET", f"/v2/serve-large/blobs/{layer}")
        response = connection.getresponse()
        begun = response.read(1000)
        images.docker("rmi", "serve-large:1")
        assert registry.ask("/v2/serve-large/manifests/1").code == "MANIFEST_UNKNOWN"
        assert registry.ask(f"/v2/serve-large/manifests/{digest}").body == manifest.body
        config = registry.ask(f"/v2/serve-large/blobs/{manifest.document['config']['digest']}")
        assert _digest(config.body) == manifest.document["config"]["digest"]
        assert registry.ask(f"/v2/serve-large/blobs/{layer}", Range="bytes=0-999").body == begun
        assert begun + response.read() == data
        connection.request("GET", f"/v2/serve-large/blobs/{layer}")
        connection.getresponse().read(1000)
        connection.close()
        gone = registry.wait_for_visit(kind="blob", whole=False)
        assert gone["message"] == "the client went away"
        assert file.exists()
        connection.request("GET", f"/v2/serve-large/blobs/{layer}")
        cut = connection.getresponse()
        cut.read(1000)
        events.drain()
        assert registry.end() == 0
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            cut.read()
        connection.close()
        while file.exists():  # nobody holds it any more
            events.wait()


def test_tls_users_and_compressed_layers(images: EngineProcess, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("server")
    users = tmp_path / "users"
    users.write_text(f"ann:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes(authority.certificate.read_bytes())
    secured = ("--tls-cert", str(server.certificate), "--tls-key", str(server.key), "--htpasswd", str(users))
    context = ssl.create_default_context(cafile=str(authority.certificate))
    seen = {}
    for kind in ("gzip", "zstd"):
        with ServedRegistry(images, *secured, "--compress", kind) as registry:
            assert registry.opened["scheme"] == "https" and registry.opened["authentication"]
            stranger = registry.ask_tls("/v2/serve-app/manifests/1", context)
            assert (stranger.status, stranger.code) == (401, "UNAUTHORIZED")
            assert stranger.headers["WWW-Authenticate"].startswith('Basic realm="')
            source = f"docker://{registry.address}/serve-app:1"
            access = ("--src-cert-dir", str(trusted), "--src-creds")
            wrong = skopeo("copy", *access, "ann:guess", source, f"dir:{tmp_path}/wrong")
            assert wrong.returncode == 1 and b"unknown user or wrong password" in wrong.stderr
            copied = skopeo("copy", *access, "ann:secret", source, f"dir:{tmp_path}/{kind}")
            assert copied.returncode == 0, copied.stderr
            assert registry.wait_for_visit(kind="blob", user="ann")
            credentials = "Basic " + base64.b64encode(b"ann:secret").decode()
            only_docker = registry.ask_tls(
                "/v2/serve-app/manifests/1", context, Authorization=credentials, Accept=DOCKER
            )
            assert only_docker.status == (200 if kind == "gzip" else 404)
            layer = json.loads((tmp_path / kind / "manifest.json").read_bytes())["layers"][0]
            whole = (tmp_path / kind / layer["digest"].partition(":")[2]).read_bytes()
            for wanted, part in (("0-9", whole[:10]), ("100-", whole[100:]), ("-7", whole[-7:]), ("99999-", b"")):
                path, asked = f"/v2/serve-app/blobs/{layer['digest']}", {"Range": f"bytes={wanted}"}
                answer = registry.ask_tls(path, context, Authorization=credentials, **asked)
                assert (answer.status, answer.body) == (206 if part else 416, part)
                assert answer.headers["Content-Range"].endswith(f"/{len(whole)}")
        manifest = (tmp_path / kind / "manifest.json").read_bytes()
        (layer,) = json.loads(manifest)["layers"]
        assert layer["mediaType"] == f"application/vnd.oci.image.layer.v1.tar+{kind}"
        blob = (tmp_path / kind / layer["digest"].partition(":")[2]).read_bytes()
        tar = decompress(io.BytesIO(blob)).read()
        assert (kind != "gzip" or gzip.decompress(blob) == tar) and [_digest(tar)] == _layers(images, "serve-app:1")
        seen[kind] = (manifest, blob)
    for path in (images.data_root / "cache" / "served").glob("*.gzip"):
        path.unlink()
    with ServedRegistry(images, "--compress", "gzip") as registry:
        again = registry.ask("/v2/serve-app/manifests/1")
        assert again.body == seen["gzip"][0], "one image, one digest"
        digest = again.document["layers"][0]["digest"]
        assert registry.ask(f"/v2/serve-app/blobs/{digest}").body == seen["gzip"][1], "made again, and the same"


def test_an_image_is_found_by_the_digest_that_a_registry_gave_it(images: EngineProcess) -> None:
    with RegistryServer() as elsewhere:
        name = f"{elsewhere.address}/serve-app:1"
        images.docker("tag", "serve-app:1", name)
        try:
            images.docker("push", name)
            pushed = images.text("image", "inspect", "-f", "{{index .RepoDigests 0}}", name).partition("@")[2]
            with ServedRegistry(images, "--compress", "gzip") as registry:
                found = registry.ask(f"/v2/serve-app/manifests/{pushed}")
                assert found.status == 200 and _digest(found.body) == pushed
                assert found.headers["Content-Type"] == DOCKER, "as it was pushed"
                for blob in (found.document["config"], *found.document["layers"]):
                    assert _digest(registry.ask(f"/v2/serve-app/blobs/{blob['digest']}").body) == blob["digest"]
            with ServedRegistry(images) as registry:  # other layers than the manifest names
                assert registry.ask(f"/v2/serve-app/manifests/{pushed}").code == "MANIFEST_UNKNOWN"
        finally:
            images.docker("rmi", name)


def test_what_is_refused_at_the_start(images: EngineProcess, plain: ServedRegistry, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("ann:plain\n")
    for arguments, said in (
        (["--address", "0.0.0.0:0"], b"without TLS"),
        (["--address", plain.address], b"Address already in use"),
        (["--htpasswd", str(tmp_path / "users")], b"htpasswd line 1"),
        (["--htpasswd", str(tmp_path / "missing")], b"No such file"),
        (["--tls-cert", str(tmp_path / "users")], b"the key is missing"),
        (["--image", "[a"], b"pattern"),
    ):
        done = images.tare("registry", "serve", "--address", "127.0.0.1:0", *arguments, check=False)
        assert done.returncode == 1 and said in done.stderr, (arguments, done.stderr)


def test_the_port_closes_with_the_command(images: EngineProcess) -> None:
    registry = ServedRegistry(images, "--address", "0.0.0.0:0", "--insecure")
    idle = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=SECONDS)
    idle.request("GET", "/v2/")
    assert idle.getresponse().read() == b"{}"
    assert registry.end(signal.SIGTERM) == -signal.SIGTERM
    assert idle.sock.recv(1) == b"", "connections end with it"
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        registry.ask("/v2/")


@pytest.mark.network
@pytest.mark.timeout(180)
def test_images_of_the_catalogue_are_assembled_when_they_are_asked_for(engine: EngineProcess) -> None:
    had = engine.text("images", "-q", "tare.local/distroless/static:12")
    try:
        with ServedRegistry(engine) as registry:
            assert {"distroless/static", "tare.local/distroless/static", "debian"} <= set(
                registry.ask("/v2/_catalog").document["repositories"]
            )
            assert "12-nonroot" in registry.ask("/v2/distroless/static/tags/list").document["tags"]
            shown = skopeo("inspect", "--tls-verify=false", f"docker://{registry.address}/distroless/static:12")
            assert shown.returncode == 0, shown.stderr
            assert json.loads(shown.stdout)["Layers"] == _layers(engine, "tare.local/distroless/static:12")
            for name, said in (("distroless/statik:12", "did you mean"), ("deb/no-such-package:12", "no-such-package")):
                repository, _, tag = name.partition(":")
                missing = registry.ask(f"/v2/{repository}/manifests/{tag}")
                assert (missing.status, missing.code) == (404, "MANIFEST_UNKNOWN")
                assert said in missing.document["errors"][0]["message"]
            assert registry.ask("/v2/library/debian/manifests/12").status == 404, "that name is another registry's"
        _check_platforms(engine)
    finally:
        if not had:
            engine.docker("rmi", "-f", "tare.local/distroless/static:12", check=False)


def _check_platforms(engine: EngineProcess) -> None:
    """A name that stands for two platforms is an index."""
    before = _image_id(engine, "tare.local/distroless/static:12")
    with ServedRegistry(engine, "--platform", "linux/amd64", "--platform", "arm64") as registry:
        index = registry.ask("/v2/distroless/static/manifests/12")
        platforms = {entry["platform"]["architecture"]: entry["digest"] for entry in index.document["manifests"]}
        assert set(platforms) == {"amd64", "arm64"}
        digest = index.headers["Docker-Content-Digest"]
        assert registry.ask(f"/v2/distroless/static/manifests/{digest}").body == index.body
        address = f"docker://{registry.address}/distroless/static:12"
        shown = json.loads(skopeo("inspect", "--tls-verify=false", "--override-arch=arm64", address).stdout)
        assert shown["Architecture"] == "arm64"
        alone = registry.ask("/v2/distroless/static/manifests/12", Accept=OCI)
        assert alone.headers["Docker-Content-Digest"] == platforms["amd64"]
        assert _image_id(engine, "tare.local/distroless/static:12") == before
    with ServedRegistry(engine, "--no-virtual") as registry:
        assert registry.ask("/v2/distroless/static/manifests/12").body == index.body, "and stands for both here, too"
