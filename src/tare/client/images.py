"""Images."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from tare.client.caller import Document, Documents, Filters, Group, Values, filters_text
from tare.client.http import Body, Response, segment
from tare.client.progress import Progress, read_progress
from tare.client.registry_auth import RegistryAuth
from tare.model import Platform


def platform_text(platform: str) -> str:
    """``os/arch[/variant]`` as the API takes it: JSON of the OCI image index's ``platform``. Raises InvalidArgument."""
    if not platform:
        return ""
    wanted = Platform.parse(platform)
    members = {"architecture": wanted.architecture, "os": wanted.os, "variant": wanted.variant}
    return json.dumps({name: value for name, value in members.items() if value})


class Images(Group):
    """Images; ``name`` is a reference or a (short) identifier."""

    async def list(self, *, everything: bool = False, filters: Filters | None = None) -> Documents:
        """The images, newest first."""
        query: Values = {"all": everything, "filters": filters_text(filters)}
        found: Documents = await self._caller.call("GET", "/images/json", query=query)
        return found

    async def inspect(self, name: str, *, platform: str = "") -> Document:
        """Everything about one image; ``platform`` chooses where the name stands for several."""
        found: Document = await self._caller.call(
            "GET", f"/images/{segment(name)}/json", query={"platform": platform_text(platform)}
        )
        return found

    async def history(self, name: str, *, platform: str = "") -> Documents:
        """Its steps, newest first."""
        found: Documents = await self._caller.call(
            "GET", f"/images/{segment(name)}/history", query={"platform": platform_text(platform)}
        )
        return found

    async def weigh(self, name: str, *, depth: int | None = None) -> Document:
        """Its bytes by layer, stage, instruction, package and directory (of ``depth`` components), and suggestions."""
        found: Document = await self._caller.call("GET", f"/tare/images/{segment(name)}/weigh", query={"depth": depth})
        return found

    async def tree(self) -> Document:
        """All images, the layers that they share, and the bytes that each shares and has for itself."""
        found: Document = await self._caller.call("GET", "/tare/images/tree")
        return found

    async def diff(self, name: str, to: str) -> Document:
        """What the image ``to`` has otherwise than ``name``: files, packages, configuration."""
        found: Document = await self._caller.call("GET", f"/tare/images/{segment(name)}/diff", query={"to": to})
        return found

    async def sbom(self, name: str, *, kind: str = "spdx-json") -> AsyncIterator[bytes]:
        """What it is made of: a document in pieces, ``spdx-json`` or ``cyclonedx-json``."""
        query: Values = {"format": kind}
        async with await self._caller.open("GET", f"/tare/images/{segment(name)}/sbom", query=query) as response:
            async for piece in response.chunks():
                yield piece

    async def tag(self, name: str, repository: str, tag: str) -> None:
        """Give it one more name."""
        await self._caller.call("POST", f"/images/{segment(name)}/tag", query={"repo": repository, "tag": tag})

    async def remove(
        self, name: str, *, force: bool = False, noprune: bool = False, platforms: Sequence[str] = ()
    ) -> Documents:
        """Take the name away, and the image with its last name; of ``platforms`` only where some are given."""
        wanted = [platform_text(platform) for platform in platforms]
        query: Values = {"force": force, "noprune": noprune, "platforms": wanted}
        removed: Documents = await self._caller.call("DELETE", f"/images/{segment(name)}", query=query)
        return removed

    async def prune(self, filters: Filters | None = None) -> Document:
        """Remove images that nothing uses."""
        query: Values = {"filters": filters_text(filters)}
        removed: Document = await self._caller.call("POST", "/images/prune", query=query)
        return removed

    async def pull(
        self, name: str, tag: str = "", *, platform: str = "", auth: RegistryAuth | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Fetch (or assemble) an image; ``tag`` may be a digest, without one all tags of the repository are fetched.

        Without ``auth`` the credentials that the user's configuration keeps are sent. The transfer ends when the
        iteration does. Raises what the engine says: NotFound, Unauthorized, Unavailable, InternalError.
        """
        headers = await self._caller.auth_headers(name, auth)
        query: Values = {"fromImage": name, "tag": tag, "platform": platform}
        async with await self._caller.open("POST", "/images/create", query=query, headers=headers) as response:
            async for progress in read_progress(response.documents()):
                yield progress

    async def push(
        self, name: str, tag: str = "", *, platform: str = "", auth: RegistryAuth | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Send an image to the registry that its name says; without ``tag`` all tags of the repository.

        As :meth:`pull` with credentials, end and errors. The last message's ``aux`` has ``Tag``, ``Digest``, ``Size``.
        """
        headers = await self._caller.auth_headers(name, auth)
        query: Values = {"tag": tag, "platform": platform_text(platform)}
        path = f"/images/{segment(name)}/push"
        async with await self._caller.open("POST", path, query=query, headers=headers) as response:
            async for progress in read_progress(response.documents()):
                yield progress

    async def save(self, names: Sequence[str], *, platform: str = "") -> Response:
        """An archive of images, as ``docker save`` writes it: the answer whose body it is; close it."""
        query: Values = {"names": [*names], "platform": platform_text(platform)}
        return await self._caller.open("GET", "/images/get", query=query)

    async def load(self, body: Body, *, platform: str = "", quiet: bool = False) -> AsyncGenerator[Progress, None]:
        """Load the images of an archive; with ``quiet`` only that an image has come is told, not how its layers do."""
        query: Values = {"quiet": quiet, "platform": platform_text(platform)}
        async with await self._caller.open("POST", "/images/load", query=query, body=body) as response:
            async for progress in read_progress(response.documents()):
                yield progress

    async def import_tar(
        self,
        body: Body | None,
        *,
        source: str = "-",
        repository: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
    ) -> AsyncIterator[Document]:
        """Make an image of a root file system's tar; yields messages, the last one's ``status`` is its identifier.

        The tar is ``body``, or what the engine finds at ``source``, an http(s) address.
        """
        query: Values = {
            "fromSrc": source,
            "repo": repository,
            "tag": tag,
            "message": message,
            "changes": [*changes],
            "platform": platform,
        }
        async with await self._caller.open("POST", "/images/create", query=query, body=body) as response:
            async for document in response.documents():
                yield document
