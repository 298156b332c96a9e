"""Manifests and indexes as registries send them: read, checked, and chosen from by platform.

Sources: OCI image-spec 1.1 (manifest.md, image-index.md), Docker's "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from tare.errors import DataCorrupt, NotFound, Unsupported
from tare.model import Digest
from tare.model.platform import Platform
from tare.oci.image import (
    DOCKER_CONFIG,
    DOCKER_FOREIGN,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
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
)
from tare.registry.platforms import PlatformMatcher

_OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

INDEXES = (MEDIA_TYPE_INDEX, DOCKER_LIST)
MANIFESTS = (MEDIA_TYPE_MANIFEST, DOCKER_MANIFEST)
ACCEPTED = (*INDEXES, *MANIFESTS)
"""What is asked for; a registry that keeps something else says so, or sends it and is refused."""

CONFIGS = (MEDIA_TYPE_CONFIG, DOCKER_CONFIG)
SIZE_LIMIT = 4 << 20  # bytes of a manifest or index (distribution-spec: registries should take as much)

GZIP, ZSTD, PLAIN = "gzip", "zstd", ""
_LAYERS = {
    MEDIA_TYPE_LAYER: PLAIN,
    MEDIA_TYPE_LAYER_GZIP: GZIP,
    MEDIA_TYPE_LAYER_ZSTD: ZSTD,
    DOCKER_LAYER: PLAIN,
    DOCKER_LAYER_GZIP: GZIP,
    DOCKER_LAYER_ZSTD: ZSTD,
    DOCKER_FOREIGN: PLAIN,
    DOCKER_FOREIGN + ".gzip": GZIP,
    _OCI_FOREIGN: PLAIN,
    _OCI_FOREIGN + "+gzip": GZIP,
    _OCI_FOREIGN + "+zstd": ZSTD,
}
"""Compression by media type. Layers that must not be distributed are asked of the registry like all others, as Docker
does on Linux; their ``urls`` are never fetched: an image must not send its host anywhere."""

_GENERIC = ("", "application/json", "application/octet-stream", "text/plain")


@dataclass(frozen=True, slots=True)
class RawManifest:
    """A manifest or index as its bytes; ``digest`` is theirs."""

    media_type: str
    digest: Digest
    data: bytes

    @classmethod
    def of(cls, media_type: str, data: bytes) -> RawManifest:
        """The bytes with their digest."""
        return cls(media_type, Digest.of(data), data)

    @property
    def descriptor(self) -> Descriptor:
        """What points to it."""
        return Descriptor(media_type=self.media_type, digest=str(self.digest), size=len(self.data))


class _Document(msgspec.Struct, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None
    fs_layers: list[Any] | None = None
    annotations: dict[str, str] | None = None


def effective_type(content_type: str, data: bytes) -> str:
    """The media type of a document that came with the header ``content_type``, whatever the server calls JSON."""
    named = content_type.partition(";")[0].strip().lower()
    if named not in _GENERIC:
        return named
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return named
    if document.media_type:
        return document.media_type
    if document.schema_version == 1:
        return _SCHEMA_1[0]
    if document.manifests is not None:
        return MEDIA_TYPE_INDEX
    return MEDIA_TYPE_MANIFEST if document.layers is not None else named


def parse(raw: RawManifest) -> Manifest | Index:
    """The document, typed. Raises Unsupported for schema 1 and unknown media types, DataCorrupt for what is malformed.

    A document that says that it is of another media type than it was served with is refused, and so is one that could
    be read as both kinds: its digest would stand for two images.
    """
    if raw.media_type in _SCHEMA_1:
        raise Unsupported(
            f"{raw.digest}: image manifest version 2, schema 1 is not supported",
            hint="push the image again with a client of 2017 or later",
            code="manifest-schema-1",
        )
    if raw.media_type not in ACCEPTED:
        raise unsupported_type(raw.media_type)
    try:
        document = msgspec.json.decode(raw.data, type=_Document)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise _malformed(raw, str(error)) from error
    if document.media_type and document.media_type != raw.media_type:
        raise _malformed(raw, f"served as {raw.media_type}, it calls itself {document.media_type}")
    if document.schema_version != 2:
        raise _malformed(raw, f"schemaVersion is {document.schema_version}, expected 2")
    is_manifest = document.config is not None or document.layers is not None
    if document.fs_layers is not None or (is_manifest and document.manifests is not None):
        raise _malformed(raw, "it could be read as a manifest and as an index")
    if raw.media_type in INDEXES:
        if document.manifests is None:
            raise _malformed(raw, "an index without manifests")
        _check_descriptors(raw, document.manifests)
        return Index(
            schema_version=2,
            media_type=raw.media_type,
            manifests=document.manifests,
            annotations=document.annotations,
        )
    if document.config is None or document.layers is None:
        raise _malformed(raw, "a manifest without config or layers")
    _check_descriptors(raw, [document.config, *document.layers])
    return Manifest(
        schema_version=2,
        media_type=raw.media_type,
        config=document.config,
        layers=document.layers,
        annotations=document.annotations,
    )


def check_image(manifest: Manifest) -> None:
    """Raise Unsupported, naming the media type, unless ``manifest`` is that of an image whose layers can be read."""
    if manifest.config.media_type not in CONFIGS:
        raise unsupported_type(manifest.config.media_type)
    for layer in manifest.layers:
        compression(layer.media_type)


def compression(media_type: str) -> str:
    """How layers of ``media_type`` are compressed: :data:`GZIP`, :data:`ZSTD` or :data:`PLAIN`. Raises Unsupported."""
    if media_type not in _LAYERS:
        raise unsupported_type(media_type)
    return _LAYERS[media_type]


def choose(index: Index, wanted: Platform) -> Descriptor:
    """The manifest for ``wanted``, or for the next best that such a machine runs, as containerd chooses.

    Manifests that name no platform come last. Raises NotFound in Docker's words.
    """
    matcher = PlatformMatcher(wanted)
    found = [(rank, entry) for entry in index.manifests if (rank := matcher.rank(entry.platform)) is not None]
    if not found:
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries", code="no-matching-manifest")
    return min(found, key=lambda pair: pair[0])[1]


def unsupported_type(media_type: str) -> Unsupported:
    """The error for what is no image, or none that this version reads."""
    return Unsupported(f"unsupported media type {media_type}", code="unsupported-media-type")


def _check_descriptors(raw: RawManifest, descriptors: list[Descriptor]) -> None:
    for descriptor in descriptors:
        try:
            Digest.parse(descriptor.digest)
        except Exception as error:
            raise _malformed(raw, str(error)) from error
        if descriptor.size < 0:
            raise _malformed(raw, f"{descriptor.digest} has the size {descriptor.size}")


def _malformed(raw: RawManifest, why: str) -> DataCorrupt:
    return DataCorrupt(f"manifest {raw.digest}: {why}", code="manifest-malformed")
