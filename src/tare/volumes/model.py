"""What a volume is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ANONYMOUS_LABEL = "com.docker.volume.anonymous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A named directory that outlives containers; ``created`` in seconds since the epoch.

    ``users`` are the identifiers of the containers that have it, running or not.
    """

    name: str
    driver: str
    mountpoint: str
    created: float
    anonymous: bool
    options: Mapping[str, str]
    labels: Mapping[str, str]
    users: tuple[str, ...] = ()
