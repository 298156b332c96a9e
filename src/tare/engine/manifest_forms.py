"""Manifests and indexes as pushes write them: in Docker's form (schema 2) or in OCI's, with Docker's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tare.archive.compression import Compression
from tare.model import Digest, Platform
from tare.oci.image import (
    DOCKER_CONFIG,
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
    Manifest,
)
from tare.registry.manifests import RawManifest
from tare.store.layer_blobs import LayerBlob


@dataclass(frozen=True, slots=True)
class _Form:
    """The media types of manifest and index, and of what a manifest names."""

    index: str
    manifest: str
    config: str
    layers: Mapping[Compression, str]


_DOCKER = _Form(
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_CONFIG,
    {
        Compression.NONE: DOCKER_LAYER,
        Compression.GZIP: DOCKER_LAYER_GZIP,
        Compression.ZSTD: DOCKER_LAYER_ZSTD,
    },
)
_OCI = _Form(
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_MANIFEST,
    MEDIA_TYPE_CONFIG,
    {
        Compression.NONE: MEDIA_TYPE_LAYER,
        Compression.GZIP: MEDIA_TYPE_LAYER_GZIP,
        Compression.ZSTD: MEDIA_TYPE_LAYER_ZSTD,
    },
)
COMPRESSIONS = {name: kind for form in (_DOCKER, _OCI) for kind, name in form.layers.items()}
"""How layers of these media types are compressed; others are not pushed."""

GZIP_LAYER = DOCKER_LAYER_GZIP


def make_manifest(
    config: Digest,
    config_size: int,
    blobs: Sequence[LayerBlob],
    template: tuple[RawManifest, Manifest] | None,
) -> RawManifest:
    """The manifest that the image came with, where it names these blobs; else one of the same form."""
    form = _DOCKER
    if template is not None:
        raw, manifest = template
        if [layer.digest for layer in manifest.layers] == [str(blob.digest) for blob in blobs]:
            return raw
        form = _OCI if raw.media_type == MEDIA_TYPE_MANIFEST else _DOCKER
    document = {
        "schemaVersion": 2,
        "mediaType": form.manifest,
        "config": {"mediaType": form.config, "size": config_size, "digest": str(config)},
        "layers": [
            {
                "mediaType": form.layers[COMPRESSIONS[blob.media_type]],
                "size": blob.size,
                "digest": str(blob.digest),
            }
            for blob in blobs
        ],
    }
    return _laid_out(form.manifest, document)


def make_index(manifests: Sequence[tuple[Platform, RawManifest]]) -> RawManifest:
    """An index of manifests for different platforms: in OCI's form when one of them is."""
    is_oci = any(raw.media_type == MEDIA_TYPE_MANIFEST for _, raw in manifests)
    document = {
        "schemaVersion": 2,
        "mediaType": (_OCI if is_oci else _DOCKER).index,
        "manifests": [
            {
                "mediaType": raw.media_type,
                "size": len(raw.data),
                "digest": str(raw.digest),
                "platform": _platform(platform),
            }
            for platform, raw in manifests
        ],
    }
    return _laid_out(str(document["mediaType"]), document)


def _platform(platform: Platform) -> dict[str, str]:
    members = {"architecture": platform.architecture, "os": platform.os, "variant": platform.variant}
    return {name: value for name, value in members.items() if value}


def _laid_out(media_type: str, document: Mapping[str, Any]) -> RawManifest:
    return RawManifest.of(media_type, json.dumps(document, indent=3).encode())
