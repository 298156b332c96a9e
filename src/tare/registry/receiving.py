"""One blob from one endpoint: resumed by ranges, tried again while bytes arrive, bounded by its size."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from tare.base.shielding import to_end
from tare.errors import DataCorrupt
from tare.model import Reference
from tare.registry.downloads import Incoming
from tare.registry.refusals import Refusal
from tare.registry.retrying import Attempts, Interrupted
from tare.registry.session import EndpointSession

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_CHUNK = 1 << 20
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Receiver:
    """Gets the rest of ``incoming``, a blob of the repository ``name``, from ``session``."""

    def __init__(
        self, session: EndpointSession, name: Reference, scope: str, incoming: Incoming, attempts: Attempts
    ) -> None:
        self._session = session
        self._name = name
        self._path = f"{name.path}/blobs/{incoming.blob.digest}"
        self._scope = scope
        self._incoming = incoming
        self._attempts = attempts
        self._best = incoming.offset
        incoming.kept = incoming.offset  # what another endpoint sent may be wrong as well

    async def run(self) -> None:
        """Return when the blob is whole and its digest right.

        A blob of which an earlier download left a part is fetched whole once more when the digest is wrong: the part
        may have been. Raises NotFound, Unauthorized and the like in the registry's words, Unavailable when the
        connection breaks again and again, DataCorrupt for wrong bytes and sizes, Exhausted without space.
        """
        while True:
            kept = self._incoming.kept
            try:
                await self._attempts.run(self._once)
                await self._incoming.verify()
            except Refusal as refusal:
                raise refusal.blob_error(self._name) from refusal
            except DataCorrupt:
                if not kept or self._incoming.kept:
                    raise
                continue
            return

    async def _once(self) -> None:
        incoming = self._incoming
        if incoming.offset == incoming.blob.size:
            return
        headers = {"Range": f"bytes={incoming.offset}-"} if incoming.offset else {}
        try:
            async with self._session.ask("GET", self._path, scopes=(self._scope,), headers=headers) as response:
                await self._align(response)
                await self._copy(response)
        except Refusal as refusal:
            if refusal.status != 416 or not incoming.offset:
                raise
            await incoming.restart()
            raise Interrupted(refusal.error()) from refusal
        if incoming.offset < incoming.blob.size:
            raise Interrupted(self._short(incoming.offset))

    async def _align(self, response: ClientResponse) -> None:
        """Make the answer's first byte the one that is written next; refuse an answer of another size."""
        incoming, size, partly = self._incoming, self._incoming.blob.size, False
        if response.status == 206:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            partly = match is not None and match[3] in ("*", str(size))  # a server may send less than the rest
            if match is None or int(match[1]) != incoming.offset:
                await incoming.restart()
                raise Interrupted(
                    DataCorrupt(f"{incoming.expected}: the registry sends another range than asked", code="blob-range")
                )
        elif incoming.offset:  # a server without ranges sends it all
            await incoming.restart()
        announced = response.content_length
        if announced is not None and incoming.offset + announced > size:
            await incoming.restart()
            raise DataCorrupt(
                f"{incoming.expected}: the registry sends more than the {size} bytes of the manifest",
                code="blob-oversize",
            )
        if announced is not None and incoming.offset + announced < size and not partly:
            raise self._short(incoming.offset + announced)

    async def _copy(self, response: ClientResponse) -> None:
        """Write what arrives, one chunk being written while the next comes in; all that came stays on a break."""
        writing: asyncio.Task[None] | None = None
        try:
            async with aclosing(_chunks(response)) as chunks:
                async for chunk in chunks:
                    if writing is not None:
                        await writing
                        self._note()
                    writing = asyncio.create_task(self._incoming.write(chunk))
        finally:
            if writing is not None:
                await to_end(writing)
                self._note()

    def _note(self) -> None:
        if self._incoming.offset > self._best:
            self._best = self._incoming.offset
            self._attempts.progressed()

    def _short(self, found: int) -> DataCorrupt:
        incoming = self._incoming
        return DataCorrupt(
            f"{incoming.expected}: truncated: the registry sent {found} of {incoming.blob.size} bytes",
            code="blob-truncated",
        )


async def _chunks(response: ClientResponse) -> AsyncGenerator[bytearray, None]:
    """The body in pieces that are worth a thread; what came before a break is given before the error is raised."""
    import aiohttp

    gathered = bytearray()
    broken: BaseException | None = None
    try:
        async for data in response.content.iter_any():
            gathered += data
            if len(gathered) >= _CHUNK:
                yield gathered
                gathered = bytearray()
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        broken = error
    if gathered:
        yield gathered
    if broken is not None:
        raise broken
