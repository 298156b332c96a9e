"""Volumes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tare.client.archives import Archives
from tare.client.caller import Document, Documents, Filters, Values, filters_text
from tare.client.http import Body, segment


class Volumes(Archives):
    """Volumes, by name."""

    async def list(self, filters: Filters | None = None) -> Documents:
        """All volumes."""
        return (await self.list_with_warnings(filters))[0]

    async def list_with_warnings(self, filters: Filters | None = None) -> tuple[Documents, Sequence[str]]:
        """All volumes, and a sentence for each driver that does not answer."""
        answer = await self._caller.call("GET", "/volumes", query={"filters": filters_text(filters)})
        return answer["Volumes"] or [], answer["Warnings"] or []

    async def inspect(self, name: str) -> Document:
        """Everything about one volume."""
        found: Document = await self._caller.call("GET", f"/volumes/{segment(name)}")
        return found

    async def create(self, document: Document) -> Document:
        """Create a volume (the API's VolumeCreateOptions); one that is there already is returned."""
        created: Document = await self._caller.call("POST", "/volumes/create", document=document)
        return created

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it with its data; raises Conflict while a container or a snapshot needs it, or it is protected."""
        await self._caller.call("DELETE", f"/volumes/{segment(name)}", query={"force": force})

    async def prune(self, filters: Filters | None = None) -> Document:
        """Remove volumes that no container uses."""
        query = {"filters": filters_text(filters)}
        removed: Document = await self._caller.call("POST", "/volumes/prune", query=query)
        return removed

    async def usages(self, filters: Filters | None = None, *, size: bool = False) -> Documents:
        """All volumes with ``UsedBy``, ``Protected``, ``Snapshots``; with ``size`` also their bytes on disk."""
        query: Values = {"filters": filters_text(filters), "size": size}
        found: Documents = await self._caller.call("GET", "/tare/volumes", query=query)
        return found

    async def usage(self, name: str, *, size: bool = False) -> Document:
        """The same of one volume."""
        found: Document = await self._caller.call("GET", f"/tare/volumes/{segment(name)}", query={"size": size})
        return found

    async def protect(self, name: str) -> None:
        """Refuse its removal, also by force, until :meth:`unprotect`."""
        await self._caller.call("POST", f"/tare/volumes/{segment(name)}/protect")

    async def unprotect(self, name: str) -> None:
        """End the protection."""
        await self._caller.call("POST", f"/tare/volumes/{segment(name)}/unprotect")

    async def snapshots(self, name: str) -> Documents:
        """Its snapshots, oldest first."""
        found: Documents = await self._caller.call("GET", f"/tare/volumes/{segment(name)}/snapshots")
        return found

    async def snapshot(self, name: str, snapshot: str = "") -> Document:
        """Keep what it holds now; running containers that have it stand still for a moment."""
        path = f"/tare/volumes/{segment(name)}/snapshots"
        made: Document = await self._caller.call("POST", path, document={"Name": snapshot})
        return made

    async def remove_snapshot(self, name: str, snapshot: str) -> None:
        """Delete a snapshot."""
        await self._caller.call("DELETE", f"/tare/volumes/{segment(name)}/snapshots/{segment(snapshot)}")

    async def clone(self, name: str, new_name: str, *, snapshot: str = "") -> Document:
        """Make a volume of what this one holds, or held when ``snapshot`` was taken."""
        document = {"Name": new_name, "Snapshot": snapshot}
        made: Document = await self._caller.call("POST", f"/tare/volumes/{segment(name)}/clone", document=document)
        return made

    async def restore(self, name: str, snapshot: str) -> Document:
        """Give it what it held then; returns the snapshot of what it held until now. Raises Conflict while in use."""
        path = f"/tare/volumes/{segment(name)}/restore"
        kept: Document = await self._caller.call("POST", path, document={"Snapshot": snapshot})
        return kept

    async def backup(self, name: str, *, compression: str = "", snapshot: str = "") -> AsyncIterator[bytes]:
        """The bytes of a backup, a tar; ``compression`` is ``gzip``, ``zstd`` or nothing."""
        query: Values = {"compression": compression, "snapshot": snapshot}
        path = f"/tare/volumes/{segment(name)}/backup"
        async with await self._caller.open("GET", path, query=query) as response:
            async for chunk in response.chunks():
                yield chunk

    async def restore_backup(self, name: str, body: Body) -> Document | None:
        """Give it what a backup holds, or make it; returns the snapshot of what it held. Raises DataCorrupt."""
        async with await self._caller.open("PUT", f"/tare/volumes/{segment(name)}/backup", body=body) as response:
            kept: Document | None = await response.json()
            return kept

    def _archive_path(self, name: str) -> str:
        return f"/tare/volumes/{segment(name)}/archive"
