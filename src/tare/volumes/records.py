"""Volumes in the database: what there is, who refers to it, what is mounted for whom."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tare.errors import Conflict
from tare.store.database import Database
from tare.volumes.model import User, Volume

_QUERY = (
    "SELECT name, driver, created, anonymous, options, labels,"
    " (SELECT json_group_array(DISTINCT container) FROM container_volumes WHERE volume = volumes.name) FROM volumes"
)
Guard = Callable[[sqlite3.Connection, str], None]
"""Runs in the transaction that deletes the volume of that name; raises Conflict to keep it."""


@dataclass(frozen=True, slots=True)
class MountRow:
    """A mount that a driver was asked for; ``mountpoint`` is empty while it is not known that it came to be."""

    volume: str
    reference: str
    mountpoint: str
    boot: str


class VolumeRecords:
    """Reads and writes the rows of volumes."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._guards: list[Guard] = []

    def add_guard(self, guard: Guard) -> None:
        """Ask ``guard`` before every deletion."""
        self._guards.append(guard)

    async def insert(
        self, name: str, driver: str, options: Mapping[str, str], labels: Mapping[str, str], *, anonymous: bool
    ) -> None:
        """Store a volume; quiet when the name is there already."""

        def transaction(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR IGNORE INTO volumes (name, driver, created, anonymous, options, labels)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (name, driver, time.time(), anonymous, json.dumps(dict(options)), json.dumps(dict(labels))),
            )

        await self._db.write(transaction)

    async def find(self, name: str) -> Volume | None:
        """The volume of that name."""
        row = await self._db.read(lambda connection: connection.execute(f"{_QUERY} WHERE name = ?", (name,)).fetchone())
        return _volume(row) if row is not None else None

    async def list(self) -> list[Volume]:
        """All volumes, sorted by name."""
        rows = await self._db.read(lambda connection: connection.execute(f"{_QUERY} ORDER BY name").fetchall())
        return [_volume(row) for row in rows]

    async def users(self, name: str) -> Sequence[User]:
        """The containers that refer to a volume, running or not, by identifier."""
        return await self._db.read(lambda connection: _users(connection, name))

    async def check_removable(self, name: str) -> None:
        """Raise what :meth:`delete` would raise."""

        def transaction(connection: sqlite3.Connection) -> None:
            self._refuse(connection, name)

        await self._db.read(transaction)

    async def delete(self, name: str) -> bool:
        """Delete the row; tells whether there was one.

        Raises Conflict naming the containers that refer to it with their states, and what would free it.
        """

        def transaction(connection: sqlite3.Connection) -> bool:
            self._refuse(connection, name)
            return connection.execute("DELETE FROM volumes WHERE name = ?", (name,)).rowcount > 0

        return await self._db.write(transaction, freeing=True)

    def _refuse(self, connection: sqlite3.Connection, name: str) -> None:
        if users := _users(connection, name):
            raise in_use(name, users)
        for guard in self._guards:
            guard(connection, name)
        mounted = connection.execute("SELECT reference FROM volume_mounts WHERE volume = ?", (name,)).fetchone()
        if mounted is not None:
            raise Conflict(
                f"remove {name}: volume is in use - [{mounted[0]}]",
                hint="it is still mounted for a container or a copy that is ending: try again",
                code="volume-in-use",
            )

    async def begin_mount(self, name: str, reference: str, boot: str) -> None:
        """Note that a driver is about to mount. Raises sqlite3.IntegrityError when the volume is gone."""
        await self._db.write(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO volume_mounts (volume, reference, mountpoint, boot) VALUES (?, ?, '', ?)",
                (name, reference, boot),
            ),
            durable=False,
        )

    async def note_mount(self, name: str, reference: str, mountpoint: str) -> None:
        """Note where it has mounted."""
        await self._db.write(
            lambda connection: connection.execute(
                "UPDATE volume_mounts SET mountpoint = ? WHERE volume = ? AND reference = ?",
                (mountpoint, name, reference),
            ),
            durable=False,
        )

    async def end_mount(self, name: str, reference: str) -> None:
        """Forget a mount that is undone."""
        await self._db.write(
            lambda connection: connection.execute(
                "DELETE FROM volume_mounts WHERE volume = ? AND reference = ?", (name, reference)
            ),
            durable=False,
        )

    async def mounts(self, *, volume: str | None = None, reference: str | None = None) -> Sequence[MountRow]:
        """The mounts of one volume, for one reference, or all."""
        wanted = [(column, value) for column, value in (("volume", volume), ("reference", reference)) if value]
        where = " AND ".join(f"{column} = ?" for column, _ in wanted) or "1"
        rows = await self._db.read(
            lambda connection: connection.execute(
                f"SELECT volume, reference, mountpoint, boot FROM volume_mounts WHERE {where}"  # noqa: S608
                " ORDER BY volume, reference",
                [value for _, value in wanted],
            ).fetchall()
        )
        return [MountRow(*row) for row in rows]

    async def forget_other_boots(self, boot: str) -> None:
        """Drop the mounts of earlier boots: a reboot has undone them."""
        await self._db.write(
            lambda connection: connection.execute("DELETE FROM volume_mounts WHERE boot <> ?", (boot,)), durable=False
        )

    async def containers(self) -> set[str]:
        """The identifiers of all containers."""
        return await self._db.read(
            lambda connection: {row[0] for row in connection.execute("SELECT id FROM containers")}
        )


def in_use(name: str, users: list[User]) -> Conflict:
    """The error for a volume that containers refer to: Docker's words, then the states and what would free it."""
    states = "; ".join(f"{user.name} is {user.status}: tare rm {'-f ' * _is_live(user)}{user.name}" for user in users)
    return Conflict(
        f"remove {name}: volume is in use - [{', '.join(user.id for user in users)}]",
        hint=f"{states}; then tare volume rm {name}",
        code="volume-in-use",
    )


def _is_live(user: User) -> bool:
    return user.status in ("running", "paused", "restarting")


def _users(connection: sqlite3.Connection, name: str) -> list[User]:
    rows = connection.execute(
        "SELECT DISTINCT c.id, c.name, c.status FROM container_volumes v JOIN containers c ON c.id = v.container"
        " WHERE v.volume = ? ORDER BY c.id",
        (name,),
    )
    return [User(id=row[0], name=row[1], status=row[2]) for row in rows]


def _volume(row: tuple[str, str, float, int, str, str, str]) -> Volume:
    name, driver, created, anonymous, options, labels, users = row
    return Volume(
        name=name,
        driver=driver,
        mountpoint="",
        created=created,
        anonymous=bool(anonymous),
        options=json.loads(options),
        labels=json.loads(labels),
        users=tuple(sorted(json.loads(users))),
    )
