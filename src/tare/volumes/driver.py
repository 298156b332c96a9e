"""The contract of a volume driver: where the files of a volume are, and how they come to be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A volume as its driver sees it: a name that is unique within the driver, and the options of ``-o``."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a driver is like.

    ``scope``: ``global`` when every host with this driver sees the same volumes under the same names. ``measurable``:
    walking the files is cheap enough to say how big a volume is. ``listed``: the driver knows volumes that this engine
    has no row of.
    """

    scope: Literal["local", "global"] = "local"
    measurable: bool = True
    listed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A volume that a driver knows; ``mountpoint`` is empty while it is not mounted."""

    name: str
    mountpoint: str = ""
    created: float = 0.0
    status: Mapping[str, object] = field(default_factory=dict)


class VolumeDriver(Protocol):
    """Keeps volumes.

    Vocabulary. A *volume* is named by its spec. A *reference* is who wants it mounted: the identifier of a container.
    Which volumes there are, who refers to them and which references are mounted is the catalogue's business and in
    its database; a driver keeps nothing that it could not find again by looking at its storage and at the mount table.

    Lifecycle. ``create`` once; any number of ``mount`` and ``unmount``, one pair per reference; ``remove`` when no
    reference is mounted. ``create``, ``remove`` and ``unmount`` are idempotent; ``mount`` for a reference that is
    mounted already returns the same directory. A reference may have been mounted by an engine that has crashed since:
    ``unmount`` works all the same.

    The catalogue calls one method at a time per volume; different volumes are served at the same time. No method may
    block the event loop, and none may wait for ever: what does not answer raises Unavailable after a time that the
    driver's settings say. A method that raises has undone what it began.
    """

    name: str

    async def create(self, spec: VolumeSpec) -> None:
        """Make the volume. Raises InvalidArgument for its options, Exhausted, Unavailable."""
        ...

    async def remove(self, spec: VolumeSpec) -> None:
        """Delete the volume with its data, where the driver owns them; quiet when it is gone. Raises Unavailable."""
        ...

    async def find(self, spec: VolumeSpec) -> Found | None:
        """Where it is now and how it does; None when the driver does not know it. Raises Unavailable."""
        ...

    def needs_mount(self, spec: VolumeSpec) -> bool:
        """Whether the files are there only between ``mount`` and ``unmount``; else nobody calls those."""
        ...

    async def adopt(self, spec: VolumeSpec) -> None:
        """Look after a volume that an earlier engine has mounted and that is in use; nothing is mounted."""
        ...

    async def mount(self, spec: VolumeSpec, reference: str) -> Path:
        """Make the files visible on the host and return where.

        Raises NotFound when the data are gone, Unavailable naming the cause, InvalidArgument for options that the
        storage refuses.
        """
        ...

    async def unmount(self, spec: VolumeSpec, reference: str, *, last: bool) -> None:
        """Undo one ``mount``; ``last``: nobody else has it mounted. Quiet when nothing is. Raises Unavailable."""
        ...

    async def list(self) -> Sequence[Found]:
        """The volumes that the driver knows by itself; empty where only rows tell (``capabilities``)."""
        ...

    async def capabilities(self) -> Capabilities:
        """What the driver is like. Raises Unavailable."""
        ...
