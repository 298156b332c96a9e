"""One repository of a registry: its manifests, blobs, tags and referrers (distribution-spec 1.1)."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urljoin

import msgspec

from tare.errors import DataCorrupt, Exhausted, NotFound, TareError
from tare.model import Digest, Reference
from tare.oci.image import MEDIA_TYPE_INDEX, Descriptor, Index
from tare.registry.downloads import Downloads, Incoming, Progress
from tare.registry.manifests import ACCEPTED, SIZE_LIMIT, RawManifest, effective_type, parse
from tare.registry.receiving import Receiver
from tare.registry.refusals import Refusal
from tare.registry.retrying import Attempts
from tare.registry.session import EndpointSession
from tare.registry.transport import read_bounded
from tare.registry.uploads import BlobSource, Uploader, next_location

if TYPE_CHECKING:
    from aiohttp import ClientResponse

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DIGEST_HEADER = "Docker-Content-Digest"
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')
_PAGE = 1000
_PAGE_LIMIT = 1000


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class Repository:
    """A repository, for one pull or push; made by :meth:`RegistryClient.repository`.

    Pulls ask mirrors before the registry itself and go on to the next endpoint when one fails; pushes go to the
    registry. Errors of all methods, beside those that they name: Unauthorized, Forbidden, NotFound, Unsupported,
    InvalidArgument in the registry's words; Unavailable when there is no connection, after all attempts.
    """

    def __init__(
        self,
        name: Reference,
        open_sessions: Callable[[], Awaitable[list[EndpointSession]]],
        make_attempts: Callable[[], Attempts],
        downloads: Downloads,
        slots: asyncio.Semaphore,
        *,
        push: bool,
    ) -> None:
        self.name = name
        self._open_sessions = open_sessions
        self._make_attempts = make_attempts
        self._downloads = downloads
        self._slots = slots
        self._sessions: list[EndpointSession] | None = None
        self._preferred: EndpointSession | None = None
        self._opening = asyncio.Lock()
        self._scope = scope_of(name.path, push=push)

    async def manifest(self, tag_or_digest: str) -> RawManifest:
        """The manifest or index, its bytes verified against the digest asked for, unparsed.

        Raises NotFound (``manifest for … not found``, ``pull access denied …``) in Docker's words, DataCorrupt for more
        than 4 MiB and for another digest.
        """
        expected = Digest.parse(tag_or_digest) if ":" in tag_or_digest else None
        asked = self._asked_name(tag_or_digest, expected)

        async def get(session: EndpointSession) -> RawManifest:
            path = f"{self.name.path}/manifests/{quote(tag_or_digest, safe=':')}"
            headers = {"Accept": ", ".join(ACCEPTED)}
            # Docker asks by HEAD first: messages about logging in name that
            async with session.ask("GET", path, scopes=(self._scope,), headers=headers, shown="Head") as response:
                data = await read_bounded(response, SIZE_LIMIT, f"manifest {asked.familiar()}")
                return _verified(response, data, expected)

        return await self._tried(get, lambda refusal: refusal.pull_error(asked))

    async def has_manifest(self, tag_or_digest: str) -> Descriptor | None:
        """What the registry has under a tag or digest, without its content; None when there is nothing."""

        async def head(session: EndpointSession) -> Descriptor | None:
            path = f"{self.name.path}/manifests/{quote(tag_or_digest, safe=':')}"
            headers = {"Accept": ", ".join(ACCEPTED)}
            async with session.ask("HEAD", path, scopes=(self._scope,), headers=headers) as response:
                digest = response.headers.get(_DIGEST_HEADER) or (tag_or_digest if ":" in tag_or_digest else "")
                media_type = response.headers.get("Content-Type", "")
                if not digest or response.content_length is None or not media_type:
                    return None
                return Descriptor(media_type=media_type, digest=str(Digest.parse(digest)), size=response.content_length)

        try:
            found = await self._tried(head)
        except _Absent:
            return None
        return found if found is not None else (await self.manifest(tag_or_digest)).descriptor

    async def download(self, blob: Descriptor, progress: Progress) -> Path:
        """A file with the content of ``blob``, whose digest and size are right; the caller discards it when done.

        Resumed where an earlier download ended. Raises DataCorrupt for wrong bytes, more or fewer than the blob has,
        Exhausted on a full disk; what arrived stays except where it was wrong.
        """
        return await self._downloads.get(blob, self._receive, progress)

    async def discard(self, digest: Digest) -> None:
        """Delete the downloaded file of a blob; quiet when there is none."""
        await self._downloads.discard(digest)

    async def has_blob(self, digest: Digest) -> int | None:
        """The size of a blob that the registry has in this repository; None when it has not."""

        async def head(session: EndpointSession) -> int:
            path = f"{self.name.path}/blobs/{digest}"
            async with session.ask("HEAD", path, scopes=(self._scope,)) as response:
                return response.content_length or 0

        try:
            return await self._tried(head)
        except _Absent:
            return None

    async def mount_blob(self, digest: Digest, origin: str) -> bool:
        """Have the registry take a blob over from its repository ``origin`` (a path); whether it did.

        A registry that refuses has not been changed, and the blob is to be uploaded.
        """

        async def mount(session: EndpointSession) -> bool:
            path = f"{self.name.path}/blobs/uploads/?mount={quote(str(digest))}&from={quote(origin)}"
            scopes = (self._scope, scope_of(origin, push=False))
            async with session.ask("POST", path, scopes=scopes, headers={"Content-Length": "0"}) as response:
                if response.status == 201:
                    return True
                location = next_location(response)
            try:  # an upload that nobody will use
                async with session.ask("DELETE", location, scopes=(self._scope,)):
                    pass
            except Exception as error:
                logger.debug("upload not cancelled: %s", error)
            return False

        return await self._tried(mount)

    async def upload_blob(self, source: BlobSource, progress: Progress) -> None:
        """Send a blob. Raises DataCorrupt when the source ends before its size."""

        async def send(session: EndpointSession) -> None:
            attempts = self._make_attempts()
            async with self._slots:
                uploader = Uploader(session, self.name.path, self._scope, source, attempts=attempts, progress=progress)
                await uploader.run()

        await self._each(send)

    async def put_manifest(self, tag_or_digest: str, manifest: RawManifest) -> Digest:
        """Store a manifest under a tag or its digest; returns its digest.

        Raises DataCorrupt if the registry computes another digest.
        """

        async def put(session: EndpointSession) -> Digest:
            path = f"{self.name.path}/manifests/{quote(tag_or_digest, safe=':')}"
            headers = {"Content-Type": manifest.media_type}
            async with session.ask(
                "PUT", path, scopes=(self._scope,), headers=headers, body=lambda: manifest.data
            ) as response:
                stored = response.headers.get(_DIGEST_HEADER)
            if stored and stored.startswith("sha256:") and stored != str(manifest.digest):
                raise DataCorrupt(
                    f"{self.name.familiar_name}: the registry stored {stored} in place of {manifest.digest}",
                    code="manifest-digest",
                )
            return manifest.digest

        return await self._tried(put)

    async def referrers(self, digest: Digest, artifact_type: str = "") -> Index:
        """What refers to a manifest (signatures, bills of materials): the API, else the tag ``sha256-<hex>``.

        An index without manifests when nothing does.
        """
        query = f"?artifactType={quote(artifact_type)}" if artifact_type else ""
        found: list[Descriptor] = []
        try:
            async for page in self._pages(f"{self.name.path}/referrers/{digest}{query}"):
                found += _index(page).manifests
        except _Absent:
            try:
                raw = await self.manifest(f"{digest.algorithm}-{digest.hex}")
            except NotFound:
                raw = None
            if raw is not None:
                found = _index(raw.data).manifests
        kept = [entry for entry in found if not artifact_type or entry.artifact_type == artifact_type]
        return Index(schema_version=2, media_type=MEDIA_TYPE_INDEX, manifests=kept)

    async def tags(self) -> list[str]:
        """All tags, in the registry's order. Raises NotFound for a repository that the registry does not know."""
        found: list[str] = []
        try:
            async for page in self._pages(f"{self.name.path}/tags/list?n={_PAGE}"):
                found += _decoded(page, _Tags).tags or []
        except _Absent as absent:
            raise absent.refusal.pull_error(self.name) from absent
        return found

    async def _pages(self, path: str) -> AsyncIterator[bytes]:
        """The documents of a list, following ``Link`` (RFC 8288) while the registry names a next page."""
        for _ in range(_PAGE_LIMIT):
            data, path = await self._tried(partial(self._page, path))
            yield data
            if not path:
                return

    async def _page(self, path: str, session: EndpointSession) -> tuple[bytes, str]:
        headers = {"Accept": f"{MEDIA_TYPE_INDEX}, application/json"}
        async with session.ask("GET", path, scopes=(self._scope,), headers=headers) as response:
            data = await read_bounded(response, SIZE_LIMIT, f"list of {self.name.familiar_name}")
            match = _NEXT.search(response.headers.get("Link", ""))
            return data, urljoin(str(response.url), match[1]) if match is not None else ""

    async def _receive(self, incoming: Incoming) -> None:
        async def receive(session: EndpointSession) -> None:
            await Receiver(session, self.name, self._scope, incoming, self._make_attempts()).run()

        async with self._slots:
            await self._each(receive)

    async def _tried(
        self,
        once: Callable[[EndpointSession], Awaitable[T]],
        translate: Callable[[Refusal], TareError] | None = None,
    ) -> T:
        """The result of ``once``, tried again where that may help, at the first endpoint where it succeeds."""

        async def attempt(session: EndpointSession) -> T:
            try:
                return await self._make_attempts().run(lambda: once(session))
            except Refusal as refusal:
                if translate is not None:
                    raise translate(refusal) from refusal
                raise (_Absent(refusal) if refusal.status == 404 else refusal.error()) from refusal

        return await self._each(attempt)

    async def _each(self, operation: Callable[[EndpointSession], Awaitable[T]]) -> T:
        """``operation`` at the endpoints in order; the one that works is the first to be asked from then on."""
        sessions = await self._ready()
        order = sorted(sessions, key=lambda session: session is not self._preferred)
        for session in order[:-1]:
            try:
                result = await operation(session)
            except Exhausted:
                raise
            except TareError as error:
                logger.info("%s: %s; asking the next endpoint", session.endpoint.bases[0], error)
            else:
                self._preferred = session
                return result
        result = await operation(order[-1])
        self._preferred = order[-1]
        return result

    async def _ready(self) -> list[EndpointSession]:
        async with self._opening:
            if self._sessions is None:
                self._sessions = await self._open_sessions()
        return self._sessions

    def _asked_name(self, tag_or_digest: str, digest: Digest | None) -> Reference:
        if digest is not None:
            return replace(self.name, tag="", digest=digest)
        return self.name.with_tag(tag_or_digest)


class _Absent(NotFound):
    """A 404 that may mean that there simply is no such thing."""

    def __init__(self, refusal: Refusal) -> None:
        error = refusal.error()
        super().__init__(error.message, hint=error.hint, code=error.code)
        self.refusal = refusal


def scope_of(path: str, *, push: bool) -> str:
    """The scope of a token for a repository (token specification, "Resource Scope Grammar")."""
    return f"repository:{path}:{'pull,push' if push else 'pull'}"


def _verified(response: ClientResponse, data: bytes, expected: Digest | None) -> RawManifest:
    raw = RawManifest.of(effective_type(response.headers.get("Content-Type", ""), data), data)
    named = response.headers.get(_DIGEST_HEADER, "")
    if expected is None and named.startswith("sha256:"):
        expected = Digest.parse(named)
    if expected is not None and raw.digest != expected:
        raise DataCorrupt(
            f"manifest verification failed for digest {expected}: received {len(data)} bytes with {raw.digest}",
            code="manifest-digest",
        )
    return raw


def _index(data: bytes) -> Index:
    found = parse(RawManifest.of(MEDIA_TYPE_INDEX, data))
    assert isinstance(found, Index)
    return found


def _decoded(data: bytes, kind: type[_Tags]) -> _Tags:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DataCorrupt(f"list of tags: {error}", code="registry-answer") from error
