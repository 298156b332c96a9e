"""OCI documents: what is read is written, and always in the same way."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tare.model import Digest
from tare.oci.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    ExecutionConfig,
    History,
    ImageConfig,
    Manifest,
    RootFS,
    encode,
)

# The example of the specification (image-spec 1.1, config.md), shortened to two steps.
CONFIG: dict[str, Any] = {
    "created": "2015-10-31T22:22:56.015925234Z",
    "author": "Alyssa P. Hacker <alyspdev@example.com>",
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "User": "alice",
        "ExposedPorts": {"8080/tcp": {}},
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "FOO=oci_is_a", "BAR=well_written_spec"],
        "Entrypoint": ["/bin/my-app-binary"],
        "Cmd": ["--foreground", "--config", "/etc/my-app.d/default.cfg"],
        "Volumes": {"/var/job-result-data": {}, "/var/log/my-app-logs": {}},
        "WorkingDir": "/home/alice",
        "Labels": {"com.example.project.git.url": "https://example.com/project.git"},
    },
    "rootfs": {
        "diff_ids": [
            "sha256:c6f988f4874bb0add23a778f753c65efe992244e148a1d2ec2a8b664fb66bbd1",
            "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        ],
        "type": "layers",
    },
    "history": [
        {"created": "2015-10-31T22:22:54.690851953Z", "created_by": "/bin/sh -c #(nop) ADD file:a3bc1e in /"},
        {"created": "2015-10-31T22:22:55.613815829Z", "created_by": "CMD [\"sh\"]", "empty_layer": True},
    ],
}  # fmt: skip

MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": MEDIA_TYPE_MANIFEST,
    "config": {
        "mediaType": MEDIA_TYPE_CONFIG,
        "digest": "sha256:b5b2b2c507a0944348e0303114d8d93aaaa081732b86451d9bce1f432a537bc7",
        "size": 7023,
    },
    "layers": [
        {
            "mediaType": MEDIA_TYPE_LAYER_GZIP,
            "digest": "sha256:9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0",
            "size": 32654,
        }
    ],
    "annotations": {"com.example.key1": "value1"},
}


def test_config_round_trip() -> None:
    read = msgspec.json.decode(json.dumps(CONFIG), type=ImageConfig)
    assert read.config.entrypoint == ["/bin/my-app-binary"]
    assert read.history[1].empty_layer
    written = json.loads(encode(read))
    written["rootfs"].setdefault("type", "layers")
    assert written == CONFIG


def test_manifest_round_trip() -> None:
    read = msgspec.json.decode(json.dumps(MANIFEST), type=Manifest)
    assert (read.schema_version, read.layers[0].size) == (2, 32654)
    written = json.loads(encode(read))
    written.setdefault("mediaType", MEDIA_TYPE_MANIFEST)
    assert written == MANIFEST


def test_encoding_does_not_depend_on_the_order_of_keys() -> None:
    one = ImageConfig(architecture="amd64", os="linux", config=ExecutionConfig(labels={"a": "1", "b": "2"}))
    two = ImageConfig(architecture="amd64", os="linux", config=ExecutionConfig(labels={"b": "2", "a": "1"}))
    assert encode(one) == encode(two)
    assert b" " not in encode(one)


def test_encoding_is_stable_over_versions() -> None:
    """Image ids are digests of these bytes: a change here changes every id."""
    config = ImageConfig(
        architecture="amd64", os="linux", created="2024-01-01T00:00:00Z",
        config=ExecutionConfig(env=["A=b"], cmd=["x"]), rootfs=RootFS(diff_ids=["sha256:" + "0" * 64]),
        history=[History(created_by="step")],
    )  # fmt: skip
    text = encode(config)
    assert json.loads(text)["rootfs"]["diff_ids"] == ["sha256:" + "0" * 64]
    again = msgspec.json.decode(text, type=ImageConfig)
    assert (encode(again), Digest.of(encode(again))) == (text, Digest.of(text))


def test_empty_and_absent_commands_differ() -> None:
    absent = msgspec.json.decode(encode(ExecutionConfig()), type=ExecutionConfig)
    empty = msgspec.json.decode(encode(ExecutionConfig(cmd=[], entrypoint=[])), type=ExecutionConfig)
    assert (absent.cmd, absent.entrypoint) == (None, None)
    assert (empty.cmd, empty.entrypoint) == ([], [])


def test_unknown_fields_are_ignored() -> None:
    text = json.dumps({**CONFIG, "container": "x", "docker_version": "28", "moby.buildkit.x": {}})
    assert msgspec.json.decode(text, type=ImageConfig).os == "linux"


@pytest.mark.parametrize(
    "change",
    [{"architecture": 1}, {"config": []}, {"rootfs": {"diff_ids": [1]}}, {"history": {}}, {"config": {"Env": "A=b"}}],
)
def test_documents_of_the_wrong_shape(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps({**CONFIG, **change}), type=ImageConfig)


@pytest.mark.parametrize("missing", ["mediaType", "digest", "size"])
def test_descriptors_have_three_required_fields(missing: str) -> None:
    document = {name: value for name, value in MANIFEST["config"].items() if name != missing}
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{missing}`"):
        msgspec.json.decode(json.dumps(document), type=Descriptor)
