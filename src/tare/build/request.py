"""What a build is asked to do and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from tare.model import Digest, Platform, Reference
from tare.store.images import Image

Progress = Callable[[str, str], None]
"""``progress(id, text)``: something long is under way; called on the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build.

    ``context`` is a directory (None: the build has none), ``dockerfile`` the text and ``dockerfile_name`` what errors
    call it. A build argument without value (None) is taken as not given. ``ignore_text`` replaces the context's
    ``.dockerignore`` (None: read ``.dockerignore`` in the context). ``shm_size`` is in bytes.
    """

    context: Path | None
    dockerfile: str
    dockerfile_name: str = "Dockerfile"
    target: str = ""
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[Reference, ...] = ()
    no_cache: bool = False
    pull: bool = False
    network: Literal["default", "none", "host"] = "default"
    extra_hosts: tuple[str, ...] = ()
    platform: Platform | None = None
    shm_size: int = 64 << 20
    host_ca: bool = True
    ignore_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """The weight of one step in bytes of what it added; ``shipped`` when it is part of the image."""

    stage: str
    name: str
    text: str
    bytes: int
    shipped: bool
    cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """A finished build; ``ledger`` is the weigh-in, in the order of the Dockerfile."""

    image_id: Digest
    warnings: tuple[str, ...] = ()
    ledger: tuple[LedgerLine, ...] = ()

    @property
    def shipped(self) -> int:
        """Bytes that are in the image."""
        return sum(line.bytes for line in self.ledger if line.shipped)

    @property
    def left_behind(self) -> int:
        """Bytes that the build made and the image does not have."""
        return sum(line.bytes for line in self.ledger if not line.shipped)


class SourceResolver(Protocol):
    """Finds the images that a Dockerfile names."""

    async def resolve(
        self, reference: Reference, platform: Platform, progress: Progress, *, refresh: bool = False
    ) -> Image:
        """The image from the local store, else assembled or pulled into it; ``refresh`` asks its origin first.

        The image stays usable while the caller works: it is tagged, or the caller takes it into a lease at once.
        Raises NotFound with Docker's words, Unavailable when its origin does not answer.
        """
        ...
