"""Image archives: the OCI image layout (image-spec 1.1, image-layout.md) and Docker's ``manifest.json`` beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tare.errors import DataCorrupt
from tare.model import Platform
from tare.oci import image as oci
from tare.oci.image import Descriptor, Index

INDEX_FILE = "index.json"
LAYOUT_FILE = "oci-layout"
DOCKER_MANIFEST_FILE = "manifest.json"
BLOBS = "blobs/sha256"

REF_NAME = "org.opencontainers.image.ref.name"  # annotations.md
CONTAINERD_NAME = "io.containerd.image.name"
"""Docker and containerd put the whole reference here, and the tag alone into ``ref.name``."""

INDEX_TYPES = frozenset({oci.MEDIA_TYPE_INDEX, oci.DOCKER_LIST})
MANIFEST_TYPES = frozenset({oci.MEDIA_TYPE_MANIFEST, oci.DOCKER_MANIFEST})
CONFIG_TYPES = frozenset({oci.MEDIA_TYPE_CONFIG, oci.DOCKER_CONFIG})
LAYER_TYPES = frozenset(
    prefix + suffix
    for prefix, suffixes in (
        (oci.MEDIA_TYPE_LAYER, ("", "+gzip", "+zstd")),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", ("", "+gzip", "+zstd")),
        (oci.DOCKER_LAYER, ("", ".gzip", ".zstd")),
        (oci.DOCKER_FOREIGN, ("", ".gzip")),
    )
    for suffix in suffixes
)

DOCUMENT_LIMIT = 8 << 20  # bytes of a manifest, index or configuration
DEPTH = 8  # indexes in indexes


class DockerImage(
    msgspec.Struct, rename={"config": "Config", "repo_tags": "RepoTags", "layers": "Layers"}, frozen=True, kw_only=True
):
    """One image of ``manifest.json``: paths of its configuration and layers, its names."""

    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


def blob_path(digest: str) -> str:
    """Where a layout has the blob ``sha256:<hex>``."""
    return f"{BLOBS}/{digest.removeprefix('sha256:')}"


def platform_of(document: Mapping[str, Any] | None) -> Platform | None:
    """The platform that a descriptor names; None when it names none."""
    if not document:
        return None
    texts = [document.get(name, default) for name, default in (("os", "linux"), ("architecture", ""), ("variant", ""))]
    return Platform(*(text if isinstance(text, str) else "" for text in texts))


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether it describes an image beside it and is none itself (BuildKit: platform ``unknown/unknown``)."""
    platform = platform_of(descriptor.platform)
    return platform is not None and (platform.os, platform.architecture) == ("unknown", "unknown")


def choose(manifests: Sequence[Descriptor], wanted: Platform) -> tuple[Descriptor | None, list[Platform]]:
    """The manifest for a platform, and the platforms of the others. One that names no platform fits any."""
    images = [item for item in manifests if not is_attestation(item)]
    found = None
    others: list[Platform] = []
    for item in images:
        platform = platform_of(item.platform)
        if found is None and (platform is None or platform.satisfies(wanted)):
            found = item
        elif platform is not None:
            others.append(platform)
    return found, others


def decode_index(data: bytes, what: str) -> Index:
    """An index, whose list may be null. Raises DataCorrupt naming ``what``."""
    try:
        document = msgspec.json.decode(data)
        if isinstance(document, dict) and document.get("manifests") is None:
            document["manifests"] = []
        return msgspec.convert(document, Index)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise DataCorrupt(
            f"{what}: not an image index: {error}",
            hint="the archive is incomplete or damaged: make it again",
            code="archive-damaged",
        ) from error
