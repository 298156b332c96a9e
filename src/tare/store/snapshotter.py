"""The contract of a snapshotter: how layers and writable directories become a mounted root file system."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NewType, Protocol

from tare.archive.changes import Change
from tare.model import Digest

Lower = NewType("Lower", str)
"""A frozen piece of a root file system: the key of a snapshot of kind ``layer`` or ``committed``."""


class Snapshotter(Protocol):
    """Turns layers into file systems.

    Vocabulary. A *layer* is an uncompressed tar in the layer store, named by its diffID. A *lower* is something frozen
    that can be stacked: a layer made mountable, or a committed upper directory. An *active* snapshot is a writable
    upper directory over a sequence of lowers (bottom first); its ``key`` is chosen by the caller and unique.

    Lifecycle. ``ensure_layer`` turns a layer into a lower. ``prepare`` makes an active snapshot, ``mount`` makes it
    visible, ``commit`` freezes it into a lower of the same key, ``remove`` deletes it. Lowers without referrers are
    deleted by garbage collection through ``remove`` too.

    All methods are safe to call at the same time for different keys. A method that raises leaves no half-made state
    that a later call with the same arguments would trip over. After a crash, ``recover`` deletes the directories that
    the database does not know.
    """

    name: str

    async def ensure_layer(self, diff_id: Digest) -> Lower:
        """Make a stored layer mountable; idempotent, single-flight. Raises NotFound, DataCorrupt."""
        ...

    async def prepare(self, key: str, lowers: Sequence[Lower]) -> None:
        """Make an active snapshot over ``lowers``. Raises Conflict when the key exists, NotFound for a lower."""
        ...

    async def mount(self, key: str, target: Path, ids: tuple[int, int] | None = None) -> None:
        """Mount an active snapshot, writable, at the existing directory ``target``.

        With ``ids`` (first, size) the stored ids from 0 on are seen as those from ``first`` on, and what their owners
        write is stored with plain ids. Raises NotFound, InternalError, Unsupported where ids cannot be mapped.
        """
        ...

    async def view(self, lowers: Sequence[Lower], target: Path) -> None:
        """Mount ``lowers`` read-only at ``target``; no lowers give an empty directory."""
        ...

    async def unmount(self, target: Path) -> None:
        """Undo ``mount`` or ``view``; quiet when nothing is mounted there."""
        ...

    async def commit(self, key: str) -> Lower:
        """Freeze an active snapshot that is not mounted. Raises NotFound, Conflict when mounted."""
        ...

    async def write_layer(self, lower: Lower) -> Digest:
        """Write a committed snapshot as a layer tar into the layer store and return its diffID; idempotent.

        Whiteouts become ``.wh.`` entries (OCI image-spec, layer.md). The tar is deterministic: sorted, no access times.
        """
        ...

    async def upper_path(self, key: str) -> Path:
        """The directory on the host that holds what an active or committed snapshot adds. Raises NotFound."""
        ...

    async def changes(self, key: str, mount_points: Collection[str] = ()) -> list[Change]:
        """What an active snapshot changes in the lowers that it stands on; it may be mounted, and change meanwhile.

        ``mount_points``: see :func:`tare.archive.changes.list_changes`. Raises NotFound, InternalError.
        """
        ...

    async def write_changes(self, key: str, *, lease: str, mount_points: Collection[str] = ()) -> Digest:
        """Write what :meth:`changes` says as a layer tar, held by ``lease``; the snapshot stays active.

        Raises NotFound, Exhausted, InternalError.
        """
        ...

    async def usage(self, key: str) -> int:
        """Bytes on disk of what the snapshot adds."""
        ...

    async def remove(self, key: str) -> None:
        """Delete a snapshot; quiet when it does not exist. Raises Conflict while another snapshot stands on it."""
        ...

    async def recover(self) -> None:
        """Delete what a crash left: directories without a row, rows of active snapshots without an owner stay."""
        ...
