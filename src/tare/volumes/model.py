"""What a volume is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ANONYMOUS_LABEL = "com.docker.volume.anonymous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A named directory that outlives containers; ``created`` in seconds since the epoch.

    ``users`` are the identifiers of the containers that have it, running or not. ``mountpoint`` may be empty while a
    plugin has not mounted its volume. ``scope`` is ``local`` or ``global``: whether other hosts see it under the same
    name. ``status`` is what the driver tells about it, for people.
    """

    name: str
    driver: str
    mountpoint: str
    created: float
    anonymous: bool
    options: Mapping[str, str]
    labels: Mapping[str, str]
    users: tuple[str, ...] = ()
    scope: str = "local"
    status: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A container that refers to a volume."""

    id: str
    name: str
    status: str
