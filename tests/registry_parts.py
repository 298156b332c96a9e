"""What tests of the registries' client share: clients whose pauses take no time, blobs, images."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tare.model import Digest, Reference
from tare.oci.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    ImageConfig,
    Manifest,
    encode,
)
from tare.registry.client import RegistryClient
from tare.registry.manifests import RawManifest
from tare.registry.retrying import RetryPolicy
from tare.registry.settings import Registries, RegistrySettings
from tare.registry.transport import Timeouts


@dataclass
class FakeClock:
    """Time that passes only while somebody sleeps."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@dataclass
class Blob:
    """A blob in memory; ``opened`` counts how often it was opened and closed."""

    data: bytes

    @property
    def digest(self) -> Digest:
        return Digest.of(self.data)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(media_type=MEDIA_TYPE_LAYER_GZIP, digest=str(self.digest), size=self.size)

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


class ClientMaker:
    """Makes clients over one directory of downloads; ``clock`` is theirs."""

    def __init__(self, downloads: Path) -> None:
        self.downloads = downloads
        self.clock = FakeClock()
        self._made: list[RegistryClient] = []

    def __call__(
        self,
        sections: Mapping[str, RegistrySettings] | None = None,
        *,
        certificates: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> RegistryClient:
        registries = Registries(sections, certificate_directories=certificates, environment=environment)
        client = RegistryClient(
            registries, self.downloads, clock=self.clock, policy=RetryPolicy(attempts=3), timeouts=timeouts
        )
        self._made.append(client)
        return client

    async def close(self) -> None:
        for client in self._made:
            await client.close()


def nothing(_: int) -> None:
    """Progress that nobody looks at."""


def repository_name(domain: str, path: str = "app/one") -> Reference:
    """The name of a repository."""
    return Reference(domain, path)


def image_of(config: Blob, *layers: Blob) -> RawManifest:
    """The manifest of an image."""
    manifest = Manifest(
        schema_version=2,
        media_type=MEDIA_TYPE_MANIFEST,
        config=Descriptor(media_type=MEDIA_TYPE_CONFIG, digest=str(config.digest), size=config.size),
        layers=[layer.descriptor for layer in layers],
    )
    return RawManifest.of(MEDIA_TYPE_MANIFEST, encode(manifest))


def config_blob(architecture: str = "amd64") -> Blob:
    """A configuration."""
    return Blob(encode(ImageConfig(architecture=architecture, os="linux")))
