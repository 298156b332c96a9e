"""Files of what has files, containers and volumes, as tars."""

from __future__ import annotations

import base64
import json
from abc import abstractmethod
from collections.abc import AsyncIterator

from tare.client.caller import Document, Group, Values
from tare.client.failures import is_answer
from tare.client.http import Response
from tare.errors import TareError


class Archives(Group):
    """Reads and writes files of the objects of a group, which are named as in its other calls."""

    @abstractmethod
    def _archive_path(self, name: str) -> str:
        """The route for files of the object ``name``."""

    async def stat_path(self, name: str, path: str) -> Document | None:
        """What stands at a path in it (the API's ContainerPathStat); None when it cannot be told."""
        try:
            response = await self._caller.open("HEAD", self._archive_path(name), query={"path": path})
        except TareError as error:
            if not is_answer(error):
                raise
            return None
        async with response:
            return _path_stat(response)

    async def copy_from(self, name: str, path: str, *, rename: str = "") -> tuple[Document, Response]:
        """What stands at a path in it, and the answer that carries a tar of it; close the answer.

        ``rename`` is what it is called in the tar (volumes only).
        """
        query: Values = {"path": path, "rename": rename}
        response = await self._caller.open("GET", self._archive_path(name), query=query)
        return _path_stat(response), response

    async def copy_to(self, name: str, path: str, body: AsyncIterator[bytes], *, keep_owner: bool = False) -> None:
        """Unpack the tar ``body`` in the directory ``path`` of it.

        ``keep_owner`` gives all to the container's user, the API's ``copyUIDGID`` (containers only).
        """
        query: Values = {"path": path, "noOverwriteDirNonDir": "true", "copyUIDGID": "true" if keep_owner else None}
        async with await self._caller.open("PUT", self._archive_path(name), query=query, body=body) as response:
            await response.read()


def _path_stat(response: Response) -> Document:
    found: Document = json.loads(base64.b64decode(response.headers.get("x-docker-container-path-stat", "e30=")))
    return found
