"""OCI image documents (image-spec 1.1: manifest.md, config.md, image-index.md) with Docker's additions.

Fields have the documents' own names through ``rename``; unknown fields are ignored when reading.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tare.model import Platform

MEDIA_TYPE_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_TYPE_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_TYPE_LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPE_LAYER_GZIP = MEDIA_TYPE_LAYER + "+gzip"
MEDIA_TYPE_LAYER_ZSTD = MEDIA_TYPE_LAYER + "+zstd"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"


class Healthcheck(msgspec.Struct, rename="pascal", omit_defaults=True, frozen=True, kw_only=True):
    """How to test that a container is healthy; durations in nanoseconds, 0 means inherit (Docker image spec 1.2)."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ExecutionConfig(msgspec.Struct, rename="pascal", omit_defaults=True, frozen=True, kw_only=True):
    """The ``config`` member: defaults for containers made from the image.

    ``None`` and empty differ for ``entrypoint`` and ``cmd`` as they do in Docker.
    """

    user: str = ""
    exposed_ports: dict[str, dict[str, Any]] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    args_escaped: bool = False
    healthcheck: Healthcheck | None = None
    on_build: list[str] | None = None
    shell: list[str] | None = None


class RootFS(msgspec.Struct, frozen=True, kw_only=True):
    """The layers, as digests of their uncompressed tars, bottom first."""

    type: str = "layers"
    diff_ids: list[str] = []


class History(msgspec.Struct, omit_defaults=True, frozen=True, kw_only=True):
    """One step that made the image; ``empty_layer`` steps changed only the configuration."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, omit_defaults=True, frozen=True, kw_only=True):
    """The image configuration; the sha256 of its bytes is the image ID. ``created`` is RFC 3339.

    ``docker_version`` is in images that an engine committed or imported; Tare writes none.
    """

    architecture: str
    os: str
    created: str | None = None
    author: str = ""
    docker_version: str = ""
    variant: str = ""
    config: ExecutionConfig = ExecutionConfig()
    rootfs: RootFS = RootFS()
    history: list[History] = []

    @property
    def platform(self) -> Platform:
        """What it says it is for."""
        return Platform(self.os, self.architecture, self.variant)


class Descriptor(
    msgspec.Struct,
    rename={"media_type": "mediaType", "artifact_type": "artifactType"},
    omit_defaults=True,
    frozen=True,
    kw_only=True,
):
    """A typed, sized, content-addressed pointer (descriptor.md)."""

    media_type: str
    digest: str
    size: int
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None
    platform: dict[str, Any] | None = None


class Manifest(
    msgspec.Struct,
    rename={"schema_version": "schemaVersion", "media_type": "mediaType"},
    omit_defaults=True,
    frozen=True,
    kw_only=True,
):
    """An image manifest; many writers leave its own media type out, which image-spec lets them."""

    schema_version: int
    media_type: str = ""
    config: Descriptor
    layers: list[Descriptor]
    annotations: dict[str, str] | None = None


class Index(
    msgspec.Struct,
    rename={"schema_version": "schemaVersion", "media_type": "mediaType"},
    omit_defaults=True,
    frozen=True,
    kw_only=True,
):
    """An image index (image-index.md); ``index.json`` of an image layout is one."""

    schema_version: int
    media_type: str = ""
    manifests: list[Descriptor]
    annotations: dict[str, str] | None = None


def encode(document: msgspec.Struct) -> bytes:
    """The document's JSON bytes: compact, keys in a stable order, so that equal documents have equal digests."""
    return msgspec.json.encode(document, order="deterministic")
