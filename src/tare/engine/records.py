"""Containers in the database: one document each, with the columns that queries need beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence

import msgspec

from tare.engine.clock import to_seconds
from tare.errors import Conflict, InvalidArgument, NotFound
from tare.model.container import Container, ContainerState
from tare.store.database import Database

_decoder = msgspec.json.Decoder(Container)


class ContainerRecords:
    """Reads and writes containers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(
        self,
        container: Container,
        volumes: Iterable[tuple[str, str]],
        links: Sequence[tuple[str, Container]] = (),
    ) -> None:
        """Store a new container, its ``(volume, destination)`` references and ``(alias, target)`` links at once.

        Raises Conflict when the name is taken or a volume has been removed meanwhile.
        """
        references = list(volumes)

        def transaction(connection: sqlite3.Connection) -> None:
            taken = connection.execute("SELECT id FROM containers WHERE name = ?", (container.name,)).fetchone()
            if taken is not None:
                raise name_taken(container.name, taken[0])
            connection.execute(
                "INSERT INTO containers (id, name, image, status, created, document) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    container.id,
                    container.name,
                    container.image_id,
                    container.state.status,
                    to_seconds(container.created),
                    msgspec.json.encode(container).decode(),
                ),
            )
            connection.executemany(
                "INSERT INTO container_volumes (container, volume, destination) VALUES (?, ?, ?)",
                [(container.id, volume, destination) for volume, destination in references],
            )
            connection.executemany(
                "INSERT INTO container_links (container, alias, target, target_name) VALUES (?, ?, ?, ?)",
                [(container.id, alias, target.id, target.name) for alias, target in links],
            )

        try:
            await self._database.write(transaction)
        except sqlite3.IntegrityError as error:
            raise Conflict(
                f"container {container.name}: its image or a volume of it was removed at the same time"
            ) from error

    async def update(
        self, container_id: str, change: Callable[[Container], None], *, durable: bool = False, freeing: bool = False
    ) -> Container:
        """Apply ``change`` to the stored document and return the new one. Raises NotFound, Exhausted.

        ``durable``, ``freeing``: as in ``Database.write``.
        """

        def transaction(connection: sqlite3.Connection) -> Container:
            container = _load(connection, container_id)
            change(container)
            connection.execute(
                "UPDATE containers SET name = ?, status = ?, document = ? WHERE id = ?",
                (container.name, container.state.status, msgspec.json.encode(container).decode(), container_id),
            )
            return container

        try:
            return await self._database.write(transaction, durable=durable, freeing=freeing)
        except sqlite3.IntegrityError as error:
            raise Conflict(f"container {container_id[:12]}: the new name is already in use") from error

    async def set_state(
        self, container_id: str, change: Callable[[ContainerState], None], *, freeing: bool = False
    ) -> Container:
        """Apply ``change`` to the container's state. Raises NotFound, Exhausted."""
        return await self.update(container_id, lambda container: change(container.state), freeing=freeing)

    async def delete(self, container_id: str) -> list[str]:
        """Remove a container and its references; returns the anonymous volumes that only it used."""

        def transaction(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                "SELECT v.name FROM container_volumes cv JOIN volumes v ON v.name = cv.volume"
                " WHERE cv.container = ? AND v.anonymous AND NOT EXISTS"
                " (SELECT 1 FROM container_volumes o WHERE o.volume = v.name AND o.container <> cv.container)",
                (container_id,),
            ).fetchall()
            connection.execute("DELETE FROM containers WHERE id = ?", (container_id,))
            return sorted({row[0] for row in rows})

        return await self._database.write(transaction, freeing=True)

    async def get(self, reference: str) -> Container:
        """The container of a full id, a name, or a unique prefix of an id.

        Raises NotFound (``No such container: x``), InvalidArgument when the prefix fits several.
        """
        return await self._database.read(lambda connection: _find(connection, reference))

    async def list(self) -> list[Container]:
        """All containers, newest first."""

        def transaction(connection: sqlite3.Connection) -> list[Container]:
            rows = connection.execute("SELECT document FROM containers ORDER BY created DESC, rowid DESC")
            return [_decoder.decode(row[0]) for row in rows]

        return await self._database.read(transaction)

    async def count_by_image(self) -> dict[str, int]:
        """How many containers each image has."""

        def transaction(connection: sqlite3.Connection) -> dict[str, int]:
            return dict(connection.execute("SELECT image, count(*) FROM containers GROUP BY image").fetchall())

        return await self._database.read(transaction)


def name_taken(name: str, owner: str) -> Conflict:
    """The error for a name in use, in Docker's words."""
    return Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
        "You have to remove (or rename) that container to be able to reuse that name.",
        code="name-in-use",
    )


def _load(connection: sqlite3.Connection, container_id: str) -> Container:
    row = connection.execute("SELECT document FROM containers WHERE id = ?", (container_id,)).fetchone()
    if row is None:
        raise NotFound(f"No such container: {container_id}", code="no-such-container")
    return _decoder.decode(row[0])


def _find(connection: sqlite3.Connection, reference: str) -> Container:
    wanted = reference.removeprefix("/")
    for column in ("id", "name"):
        row = connection.execute(f"SELECT document FROM containers WHERE {column} = ?", (wanted,)).fetchone()  # noqa: S608
        if row is not None:
            return _decoder.decode(row[0])
    owner, slash, alias = wanted.partition("/")
    if slash:
        row = connection.execute(
            "SELECT targets.document FROM container_links JOIN containers ON containers.id = container_links.container"
            " JOIN containers AS targets ON targets.id = target WHERE containers.name = ? AND alias = ?",
            (owner, alias),
        ).fetchone()
        if row is not None:
            return _decoder.decode(row[0])
    if wanted and all(character in "0123456789abcdef" for character in wanted):
        rows = connection.execute(
            "SELECT document FROM containers WHERE id >= ? AND id < ? LIMIT 2", (wanted, wanted + "g")
        ).fetchall()
        if len(rows) > 1:
            raise InvalidArgument(f"Multiple IDs found with provided prefix: {wanted}")
        if rows:
            return _decoder.decode(rows[0][0])
    raise NotFound(f"No such container: {reference}", code="no-such-container")
