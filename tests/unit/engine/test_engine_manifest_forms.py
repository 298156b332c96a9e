"""Manifests that pushes write."""

from __future__ import annotations

import json

from tare.engine.manifest_forms import make_index, make_manifest
from tare.model import Digest, Platform
from tare.oci.image import DOCKER_LAYER_GZIP, Index, Manifest
from tare.registry.manifests import RawManifest, check_image, parse
from tare.store.layer_blobs import LayerBlob

CONFIG = Digest.of(b"config")
OCI = "application/vnd.oci.image"


def blob(data: bytes, media_type: str = DOCKER_LAYER_GZIP) -> LayerBlob:
    return LayerBlob(digest=Digest.of(data), size=len(data), media_type=media_type, repository="reg.test/app")


def template(raw: RawManifest) -> tuple[RawManifest, Manifest]:
    manifest = parse(raw)
    assert isinstance(manifest, Manifest)
    check_image(manifest)
    return raw, manifest


def test_a_manifest_is_laid_out_as_dockers() -> None:
    raw = make_manifest(CONFIG, 7, [blob(b"one")], None)
    assert (
        raw.data.decode()
        == f"""{{
   "schemaVersion": 2,
   "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
   "config": {{
      "mediaType": "application/vnd.docker.container.image.v1+json",
      "size": 7,
      "digest": "{CONFIG}"
   }},
   "layers": [
      {{
         "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
         "size": 3,
         "digest": "{Digest.of(b"one")}"
      }}
   ]
}}"""
    )


def test_the_manifest_that_an_image_came_with_stays() -> None:
    document = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": {"mediaType": f"{OCI}.config.v1+json", "size": 7, "digest": str(CONFIG)},
        "layers": [{"mediaType": f"{OCI}.layer.v1.tar+zstd", "size": 3, "digest": str(Digest.of(b"one"))}],
        "annotations": {"a": "b"},
    }
    came = template(RawManifest.of(f"{OCI}.manifest.v1+json", json.dumps(document).encode()))
    assert make_manifest(CONFIG, 7, [blob(b"one", f"{OCI}.layer.v1.tar+zstd")], came) is came[0]
    other = make_manifest(CONFIG, 7, [blob(b"two")], came)  # in the form that it came in
    made = template(other)[1]
    assert (other.media_type, made.config.media_type) == (f"{OCI}.manifest.v1+json", f"{OCI}.config.v1+json")
    assert [layer.media_type for layer in made.layers] == [f"{OCI}.layer.v1.tar+gzip"]


def test_an_index_names_platforms() -> None:
    manifests = [make_manifest(Digest.of(name), 7, [blob(name)], None) for name in (b"one", b"two")]
    platforms = [Platform("linux", "amd64"), Platform("linux", "arm", "v7")]
    raw = make_index(list(zip(platforms, manifests, strict=True)))
    index = parse(raw)
    assert isinstance(index, Index)
    assert raw.media_type == "application/vnd.docker.distribution.manifest.list.v2+json"
    assert [(entry.digest, entry.platform) for entry in index.manifests] == [
        (str(manifests[0].digest), {"architecture": "amd64", "os": "linux"}),
        (str(manifests[1].digest), {"architecture": "arm", "os": "linux", "variant": "v7"}),
    ]
