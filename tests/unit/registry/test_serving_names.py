"""What repositories images are offered in, requests of the distribution API, manifests, and errors."""

from __future__ import annotations

import hashlib
import json

import pytest

from tare.archive.compression import Compression
from tare.errors import DataCorrupt, Exhausted, InvalidArgument, NotFound, Unauthorized, Unavailable, Unsupported
from tare.model import Digest, Platform, Reference
from tare.oci.image import DOCKER_LIST, DOCKER_MANIFEST
from tare.registry.server.documents import Accepted, LayerForm, accepted, index, manifest
from tare.registry.server.failures import answer_of
from tare.registry.server.names import Repository, names_of
from tare.registry.server.requests import page, read_request

HEX = "a" * 64
OCI = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        ("app", ("app", "library/app")),
        ("team/app:1", ("team/app",)),
        ("registry.example/team/app", ("registry.example/team/app",)),
        ("registry.example:5000/app", ("registry.example_5000/app",)),
        ("Registry.Example/app", ("registry.example/app",)),
        ("localhost/app", ("localhost/app",)),
        ("tare.local/debian:12", ("debian", "tare.local/debian")),
        ("tare.local/distroless/static", ("distroless/static", "tare.local/distroless/static")),
        ("[2001:db8::1]:5000/app", ()),
        ("registry.example/" + "a" * 238, ("registry.example/" + "a" * 238,)),
    ],
)
def test_names_that_an_image_is_offered_by(reference: str, names: tuple[str, ...]) -> None:
    found = names_of(Reference.parse(reference))
    assert found == names
    assert all(Repository.parse(name).rank(Reference.parse(reference)) is not None for name in found)


def test_which_image_a_name_means_first() -> None:
    debian = Repository.parse("debian")
    assert debian.rank(Reference.parse("debian:12")) == 0
    assert debian.rank(Reference.parse("tare.local/debian:12")) == 2
    assert debian.rank(Reference.parse("registry.example/debian")) is None
    assert Repository.parse("registry.example/debian").rank(Reference.parse("registry.example/debian")) == 1


def test_a_mirror_of_a_registry_has_that_registrys_images_only() -> None:
    mirrored = Repository.parse("team/app", "registry.example")
    assert mirrored.rank(Reference.parse("registry.example/team/app")) == 0
    assert mirrored.rank(Reference.parse("team/app")) is None
    assert mirrored.virtual("1") is None
    assert Repository.parse("debian", "docker.io").virtual("12") is None
    assert Repository.parse("debian", "tare.local").virtual("12") == Reference.parse("tare.local/debian:12")
    assert Repository.parse("tare.local/debian").virtual("12") == Reference.parse("tare.local/debian:12")


@pytest.mark.parametrize(
    ("path", "kind", "label"),
    [
        ("/v2/", "base", "base"),
        ("/v2", "base", "base"),
        ("/v2/_catalog", "catalog", "catalog"),
        ("/v2/app/tags/list", "tags", "app"),
        ("/v2/library/app/manifests/1.0", "manifest", "library/app:1.0"),
        (f"/v2/app/manifests/sha256:{HEX}", "manifest", f"app@sha256:{HEX}"),
        (f"/v2/a/manifests/b/blobs/sha256:{HEX}", "blob", f"a/manifests/b@sha256:{HEX}"),
        (f"/v2/app/referrers/sha256:{HEX}", "referrers", f"app@sha256:{HEX}"),
        ("/v2/app/blobs/uploads/", "upload", "app"),
        ("/v2/app/blobs/uploads/some-upload", "upload", "app"),
    ],
)
def test_endpoints(path: str, kind: str, label: str) -> None:
    wanted = read_request(path, {})
    assert (wanted.kind, wanted.label) == (kind, label)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", "UNSUPPORTED"),
        ("/v1/", "UNSUPPORTED"),
        ("/v2/app", "UNSUPPORTED"),
        ("/v2/app/manifests", "UNSUPPORTED"),
        ("/v2/../../etc/passwd/manifests/1", "NAME_INVALID"),
        ("/v2/App/manifests/1", "NAME_INVALID"),
        ("/v2//manifests/1", "NAME_INVALID"),
        ("/v2/a//b/tags/list", "NAME_INVALID"),
        (f"/v2/{'a' * 256}/tags/list", "NAME_INVALID"),
        ("/v2/app\n/tags/list", "NAME_INVALID"),
        ("/v2/app/manifests/.hidden", "TAG_INVALID"),
        ("/v2/app/manifests/" + "a" * 129, "TAG_INVALID"),
        ("/v2/app/manifests/", "TAG_INVALID"),
        ("/v2/app/manifests/1\n", "TAG_INVALID"),
        ("/v2/app/manifests/sha256:abc", "DIGEST_INVALID"),
        (f"/v2/app/manifests/sha512:{HEX}{HEX}", "DIGEST_INVALID"),
        ("/v2/app/blobs/..", "DIGEST_INVALID"),
        (f"/v2/app/blobs/sha256:{HEX.upper()}", "DIGEST_INVALID"),
        ("/v2/app/referrers/latest", "DIGEST_INVALID"),
    ],
)
def test_what_is_no_endpoint(path: str, code: str) -> None:
    with pytest.raises((NotFound, InvalidArgument)) as raised:
        read_request(path, {})
    assert raised.value.code == code
    number, body = answer_of(raised.value)
    assert number in (400, 404)
    assert json.loads(body)["errors"][0]["code"] == code


def test_pages_hang_together() -> None:
    names, query, seen = [f"n{number:02}" for number in range(7)], {"n": "3"}, []
    while True:
        chosen, link = page(names, query, "/v2/_catalog")
        seen.append(chosen)
        if not link:
            break
        path, _, rest = link.partition("?")
        assert path == "</v2/_catalog"
        assert rest.endswith('>; rel="next"')
        query = dict(pair.split("=") for pair in rest.partition(">")[0].split("&"))
    assert seen == [names[:3], names[3:6], names[6:]]
    assert page(names, {}, "/v2/_catalog") == (names, "")
    assert page(names, {"n": "0"}, "/v2/_catalog") == ([], "")
    assert page(names, {"last": "n05"}, "/v2/_catalog") == (["n06"], "")
    assert "ns=registry.example" in page(names, {"n": "1", "ns": "registry.example"}, "/v2/_catalog")[1]


@pytest.mark.parametrize("number", ["-1", "x", "", "1" * 10, "²"])
def test_a_number_of_results_that_is_none(number: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        page(["a"], {"n": number}, "/v2/_catalog")
    assert raised.value.code == "PAGINATION_NUMBER_INVALID"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], Accepted("oci", indexes=True)),
        (["*/*"], Accepted("oci", indexes=True)),
        (["application/json"], Accepted("oci", indexes=True)),
        ([f"{DOCKER_MANIFEST}, {OCI}"], Accepted("oci", indexes=False)),
        ([DOCKER_MANIFEST, OCI_INDEX], Accepted("oci", indexes=True)),
        ([f"{DOCKER_MANIFEST}, {DOCKER_LIST};q=0.5"], Accepted("docker", indexes=True)),
        ([f"{OCI};q=0, {DOCKER_MANIFEST}"], Accepted("docker", indexes=False)),
        ([f" {DOCKER_MANIFEST.upper()} ; q=1"], Accepted("docker", indexes=False)),
    ],
)
def test_what_a_client_gets_by_accept(accept: list[str], expected: Accepted) -> None:
    assert accepted(accept) == expected


def _layer(kind: Compression) -> LayerForm:
    return LayerForm(Digest("b" * 64), Digest("c" * 64), 5, kind)


def test_manifests_are_the_same_each_time_and_say_what_the_layers_are() -> None:
    first = manifest(Digest(HEX), 3, [_layer(Compression.GZIP)], "oci")
    assert first is not None
    assert first == manifest(Digest(HEX), 3, [_layer(Compression.GZIP)], "oci")
    assert first.digest.hex == hashlib.sha256(first.data).hexdigest()
    assert json.loads(first.data) == {
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": f"sha256:{HEX}", "size": 3},
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": f"sha256:{'c' * 64}",
                "size": 5,
            }
        ],
    }
    docker = manifest(Digest(HEX), 3, [_layer(Compression.NONE)], "docker")
    assert docker is not None
    document = json.loads(docker.data)
    assert document["mediaType"] == docker.media_type == DOCKER_MANIFEST
    assert document["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    assert document["layers"][0]["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar"
    assert manifest(Digest(HEX), 3, [_layer(Compression.ZSTD)], "docker") is None


def test_an_index_names_each_platform() -> None:
    one = manifest(Digest(HEX), 3, [], "oci")
    assert one is not None
    joined = index({Platform(): one, Platform("linux", "arm", "v7"): one}, "oci")
    assert joined.media_type == OCI_INDEX and joined.digest == Digest.of(joined.data)
    assert [entry["platform"] for entry in json.loads(joined.data)["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm", "os": "linux", "variant": "v7"},
    ]
    assert index({Platform(): one}, "docker").media_type == DOCKER_LIST


@pytest.mark.parametrize(
    ("error", "number", "code"),
    [
        (NotFound("gone", code="BLOB_UNKNOWN"), 404, "BLOB_UNKNOWN"),
        (NotFound("no such package", code="catalogue-unknown"), 404, "MANIFEST_UNKNOWN"),
        (Unsupported("read-only", hint="push elsewhere", code="READ_ONLY"), 405, "UNSUPPORTED"),
        (Unauthorized("who?"), 401, "UNAUTHORIZED"),
        (Unavailable("the archive is not there"), 503, "UNAVAILABLE"),
        (Exhausted("the disk is full"), 503, "UNAVAILABLE"),
        (DataCorrupt("the file is missing"), 500, "UNKNOWN"),
    ],
)
def test_errors_are_those_of_the_specification(error: Exception, number: int, code: str) -> None:
    status, body = answer_of(error)
    (entry,) = json.loads(body)["errors"]
    assert (status, entry["code"], entry["message"]) == (number, code, str(error))
    assert ("detail" in entry) == ("(" in str(error))
