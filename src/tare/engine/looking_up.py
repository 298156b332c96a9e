"""What registries have under a name, without getting it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tare.errors import DataCorrupt
from tare.model import Digest, Reference
from tare.oci.image import Index
from tare.registry.client import RegistryClient
from tare.registry.credentials import Credentials
from tare.registry.manifests import check_image, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A manifest or index: ``size`` in bytes, ``platforms`` as in an index (image-index.md)."""

    media_type: str
    digest: Digest
    size: int
    platforms: tuple[Mapping[str, Any], ...]


class _Platform(msgspec.Struct):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class LookUps:
    """Asks registries."""

    def __init__(self, registries: RegistryClient) -> None:
        self._registries = registries

    async def look_up(self, reference: Reference, credentials: Credentials | None = None) -> Found:
        """What ``reference`` is at its registry. Raises what the registry says, Unsupported for what is no image."""
        repository = self._registries.repository(reference, credentials)
        raw = await repository.manifest(str(reference.digest or reference.tag))
        document = parse(raw)
        if isinstance(document, Index):
            platforms: tuple[Mapping[str, Any], ...] = tuple(
                entry.platform for entry in document.manifests if entry.platform
            )
        else:
            check_image(document)
            path = await repository.download(document.config, lambda _: None)
            config = await asyncio.to_thread(path.read_bytes)
            await repository.discard(Digest.parse(document.config.digest))
            platforms = (_platform_of(config, raw.digest),)
        return Found(media_type=raw.media_type, digest=raw.digest, size=len(raw.data), platforms=platforms)

    async def referrers(
        self, reference: Reference, artifact_type: str = "", credentials: Credentials | None = None
    ) -> tuple[Digest, Index]:
        """The digest of ``reference`` at its registry, and what refers to it (distribution-spec, "Listing Referrers").

        Signatures and bills of materials do; ``artifact_type`` narrows them to one kind. Raises what the registry says.
        """
        repository = self._registries.repository(reference, credentials)
        raw = await repository.manifest(str(reference.digest or reference.tag))
        return raw.digest, await repository.referrers(raw.digest, artifact_type)


def _platform_of(document: bytes, digest: Digest) -> Mapping[str, Any]:
    try:
        config = msgspec.json.decode(document, type=_Platform)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataCorrupt(f"{digest}: invalid image configuration: {error}", code="config-invalid") from error
    members = {"architecture": config.architecture, "os": config.os, "variant": config.variant}
    return {name: value for name, value in members.items() if value}
