"""What an engine must answer and have: containers and volumes in memory, and the steps that change them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

ALIVE = ("running", "paused")


@dataclass
class Volume:
    """A volume; ``files`` are names and contents, ``snapshots`` what it held then."""

    files: dict[str, bytes] = field(default_factory=dict)
    anonymous: bool = False
    protected: bool = False
    snapshots: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def removable(self) -> bool:
        return not self.protected and not self.snapshots


@dataclass
class Container:
    """A container; ``mounts`` are the names of its volumes by their place, ``brief`` ends by itself."""

    identifier: str
    state: str = "created"
    mounts: dict[str, str] = field(default_factory=dict)
    brief: bool = False


@dataclass
class Model:
    """The whole engine. Names of containers and volumes come from small pools, so that they meet again."""

    containers: dict[str, Container] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)

    def users(self, volume: str) -> list[str]:
        return [name for name, one in self.containers.items() if volume in one.mounts.values()]

    def is_used(self, volume: str, but: str = "") -> bool:
        return any(name != but for name in self.users(volume))

    def is_written(self, volume: str) -> bool:
        return any(self.containers[name].state in ALIVE for name in self.users(volume))

    def forget_container(self, name: str, *, volumes: bool) -> None:
        """Remove a container, with ``volumes`` also those that nobody has named and nobody else has."""
        mounts = self.containers.pop(name).mounts
        if not volumes:
            return
        for volume in set(mounts.values()):
            if self.volumes[volume].anonymous and not self.is_used(volume) and self.volumes[volume].removable:
                del self.volumes[volume]

    def unused(self, *, everything: bool) -> list[str]:
        """The volumes that a prune takes."""
        return [
            name
            for name, volume in self.volumes.items()
            if (everything or volume.anonymous) and volume.removable and not self.is_used(name)
        ]

    def one(self, chance: random.Random, states: Iterable[str] = ()) -> str | None:
        """The name of a container in one of these states."""
        wanted = list(states)
        names = [name for name, one in self.containers.items() if not wanted or one.state in wanted]
        return chance.choice(sorted(names)) if names else None
