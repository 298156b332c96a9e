"""Manifests of images that are stored as configuration and layers, and which form of them a client takes. Pure.

The same image with the same forms of its layers always has the same bytes, and so the same digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tare.archive.compression import Compression
from tare.model import Digest, Platform
from tare.oci.image import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_LAYER_ZSTD,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    encode,
)

_DOCKER_LAYERS = {
    Compression.NONE: DOCKER_LAYER,
    Compression.GZIP: DOCKER_LAYER_GZIP,
}
_OCI_LAYERS = {
    Compression.NONE: MEDIA_TYPE_LAYER,
    Compression.GZIP: MEDIA_TYPE_LAYER_GZIP,
    Compression.ZSTD: MEDIA_TYPE_LAYER_ZSTD,
}
Form = Literal["oci", "docker"]
"""OCI's documents, or Docker's of manifest version 2, schema 2."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a client takes: documents of one ``form``, and whether an index of several platforms may be one."""

    form: Form
    indexes: bool


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


def index(manifests: Mapping[Platform, Document], form: Form) -> Document:
    """The manifests of several platforms' images in one list."""
    media_type = MEDIA_TYPE_INDEX if form == "oci" else DOCKER_LIST
    entries = [
        Descriptor(
            media_type=one.media_type,
            digest=str(one.digest),
            size=len(one.data),
            platform={
                "architecture": platform.architecture,
                "os": platform.os,
                **({"variant": platform.variant} if platform.variant else {}),
            },
        )
        for platform, one in manifests.items()
    ]
    data = encode(Index(schema_version=2, media_type=media_type, manifests=entries))
    return Document(media_type, Digest.of(data), data)


def no_referrers() -> bytes:
    """The answer of the referrers API where nothing refers (distribution-spec, "Listing Referrers")."""
    return b'{"schemaVersion":2,"mediaType":"' + MEDIA_TYPE_INDEX.encode() + b'","manifests":[]}'


def accepted(accept: Iterable[str]) -> Accepted:
    """What a client gets, by its ``Accept`` headers: OCI's form unless it names only Docker's media types."""
    types = set()
    for header in accept:
        for item in header.split(","):
            name, *parameters = (part.strip().lower() for part in item.split(";"))
            if not any(parameter.replace(" ", "") in ("q=0", "q=0.0") for parameter in parameters):
                types.add(name)
    anything = not types & {MEDIA_TYPE_MANIFEST, MEDIA_TYPE_INDEX, DOCKER_MANIFEST, DOCKER_LIST}
    if anything or types & {MEDIA_TYPE_MANIFEST, MEDIA_TYPE_INDEX, "*/*", "application/*"}:
        return Accepted("oci", anything or bool(types & {MEDIA_TYPE_INDEX, "*/*", "application/*"}))
    return Accepted("docker", DOCKER_LIST in types)
