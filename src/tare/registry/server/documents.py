"""Manifests of images that are stored as configuration and layers, and which form of them a client takes. Pure.

The same image with the same forms of its layers always has the same bytes, and so the same digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tare.archive.compression import Compression
from tare.model import Digest
from tare.oci.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_LAYER_ZSTD,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Manifest,
    encode,
)

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYERS = {
    Compression.NONE: "application/vnd.docker.image.rootfs.diff.tar",
    Compression.GZIP: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_OCI_LAYERS = {
    Compression.NONE: MEDIA_TYPE_LAYER,
    Compression.GZIP: MEDIA_TYPE_LAYER_GZIP,
    Compression.ZSTD: MEDIA_TYPE_LAYER_ZSTD,
}
Form = Literal["oci", "docker"]
"""OCI image manifest, or Docker's image manifest version 2, schema 2."""


@dataclass(frozen=True, slots=True)
class LayerForm:
    """A layer as it is sent: ``digest`` and ``size`` (bytes) of the blob, which is compressed as ``kind`` says."""

    diff_id: Digest
    digest: Digest
    size: int
    kind: Compression


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest's bytes."""

    media_type: str
    digest: Digest
    data: bytes


def manifest(config: Digest, size: int, layers: Sequence[LayerForm], form: Form) -> Document | None:
    """The manifest of an image whose configuration has ``size`` bytes; layers bottom first.

    None where the form has no media type for a layer: Docker's knows no zstd.
    """
    kinds = _OCI_LAYERS if form == "oci" else _DOCKER_LAYERS
    if any(layer.kind not in kinds for layer in layers):
        return None
    media_type = MEDIA_TYPE_MANIFEST if form == "oci" else DOCKER_MANIFEST
    configuration = MEDIA_TYPE_CONFIG if form == "oci" else DOCKER_CONFIG
    data = encode(
        Manifest(
            schema_version=2,
            media_type=media_type,
            config=Descriptor(media_type=configuration, digest=str(config), size=size),
            layers=[
                Descriptor(media_type=kinds[layer.kind], digest=str(layer.digest), size=layer.size) for layer in layers
            ],
        )
    )
    return Document(media_type, Digest.of(data), data)


def no_referrers() -> bytes:
    """The answer of the referrers API where nothing refers (distribution-spec, "Listing Referrers")."""
    return b'{"schemaVersion":2,"mediaType":"' + MEDIA_TYPE_INDEX.encode() + b'","manifests":[]}'


def wanted_form(accept: Iterable[str]) -> Form:
    """Which form a client gets, by its ``Accept`` headers: OCI unless it names only Docker's media types."""
    types = set()
    for header in accept:
        for item in header.split(","):
            name, *parameters = (part.strip().lower() for part in item.split(";"))
            if not any(parameter.replace(" ", "") in ("q=0", "q=0.0") for parameter in parameters):
                types.add(name)
    if types & {MEDIA_TYPE_MANIFEST, MEDIA_TYPE_INDEX, "*/*", "application/*"}:
        return "oci"
    return "docker" if types & {DOCKER_MANIFEST, DOCKER_LIST} else "oci"
