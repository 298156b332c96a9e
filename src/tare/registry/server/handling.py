"""The distribution API, read-only: requests in, documents and blobs out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import msgspec
from aiohttp import web

from tare.errors import TareError, Unsupported, as_tare_error
from tare.model import Digest
from tare.oci.image import MEDIA_TYPE_INDEX
from tare.registry.server.documents import Accepted, Document, accepted, no_referrers
from tare.registry.server.failures import answer_of
from tare.registry.server.files import Blob, file_response
from tare.registry.server.names import Repository
from tare.registry.server.passwords import Passwords
from tare.registry.server.requests import Wanted, page, read_request
from tare.version import __version__

logger = logging.getLogger(__name__)

_GONE = "the client went away"
_READ = ("GET", "HEAD")
_WORD_LIMIT = 80  # of what clients say about themselves
_READ_ONLY = "this registry is read-only: it offers what an engine has"
_READ_ONLY_HINT = "load, build or tag the image at that engine, or push to another registry"


class Content(Protocol):
    """What there is to be had.

    The context managers keep their object in the store until they are left; entering them raises NotFound with the
    specification's codes, or whatever else keeps an image from being had.
    """

    async def repositories(self) -> list[str]:
        """The names of all repositories, sorted."""
        ...

    async def tags(self, repository: Repository) -> list[str]:
        """The tags of one, sorted. Raises NotFound (``NAME_UNKNOWN``)."""
        ...

    def manifest(
        self, repository: Repository, wanted: str | Digest, accept: Accepted
    ) -> AbstractAsyncContextManager[Document]:
        """A manifest or index by tag, as the client takes it, or by digest, whatever it is."""
        ...

    def blob(self, repository: Repository, digest: Digest) -> AbstractAsyncContextManager[Blob]:
        """A configuration or layer of one of the repository's images."""
        ...


@dataclass(kw_only=True)
class Visit:
    """One request and how it went. ``moment`` in seconds since the epoch, ``size`` in bytes of the answer's body.

    ``begun`` says that the answer was on its way, ``whole`` that the client took all of it.
    """

    moment: float
    address: str
    user: str
    agent: str
    method: str
    kind: str
    label: str
    number: int = 0
    size: int = 0
    digest: str = ""
    seconds: float = 0.0
    begun: bool = False
    whole: bool = False
    message: str = ""


class Handling:
    """Answers requests out of ``content``; each is told to ``observe``, which must not block."""

    def __init__(self, content: Content, passwords: Passwords | None, observe: Callable[[Visit], None]) -> None:
        self._content = content
        self._passwords = passwords
        self._observe = observe

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, the body included."""
        begun = time.monotonic()
        visit = Visit(
            moment=time.time(),
            address=request.remote or "",
            user="",
            agent=_printable(request.headers.get("User-Agent", "").partition(" ")[0]),
            method=_printable(request.method),
            kind="",
            label=_printable(request.path),
        )
        try:
            response = await self._answer(request, visit)
            visit.whole = True
            return response
        except ConnectionError as error:
            visit.message = str(error) or _GONE
            raise asyncio.CancelledError from error  # nobody is there to be answered
        except asyncio.CancelledError:
            visit.message = _GONE
            raise
        finally:
            visit.seconds = time.monotonic() - begun
            self._observe(visit)

    async def _answer(self, request: web.BaseRequest, visit: Visit) -> web.StreamResponse:
        try:
            if self._passwords is not None:
                visit.user = _printable(await self._passwords.check(request.headers.get("Authorization", "")))
            wanted = read_request(request.path, request.query)
            visit.kind, visit.label = wanted.kind, wanted.label
            if request.method not in _READ or wanted.kind == "upload":
                raise Unsupported(_READ_ONLY, hint=_READ_ONLY_HINT, code="READ_ONLY")
            return await self._find(request, wanted, visit)
        except ConnectionError:
            raise
        except Exception as error:
            if not isinstance(error, TareError):
                logger.exception("registry: %s %s", request.method, visit.label)
            if visit.begun:  # half an answer is on its way: another one behind it would be taken for its rest
                raise ConnectionError(f"cut off: {error}") from error
            return await self._refuse(request, as_tare_error(error), visit)

    async def _find(self, request: web.BaseRequest, wanted: Wanted, visit: Visit) -> web.StreamResponse:
        repository, digest = wanted.repository, wanted.digest
        if repository is None:
            if wanted.kind == "base":
                return await _send(request, web.Response(body=b"{}", content_type="application/json"), visit)
            return await self._list(request, "repositories", await self._content.repositories(), {}, visit)
        if wanted.kind == "tags":
            tags = await self._content.tags(repository)
            return await self._list(request, "tags", tags, {"name": repository.name}, visit)
        if wanted.kind == "referrers":
            filtered = {"OCI-Filters-Applied": "artifactType"} if "artifactType" in request.query else {}
            body = web.Response(body=no_referrers(), content_type=MEDIA_TYPE_INDEX, headers=filtered)
            return await _send(request, body, visit)
        if wanted.kind == "manifest":
            accept = accepted(request.headers.getall("Accept", []))
            async with self._content.manifest(repository, digest or wanted.tag, accept) as document:
                return await _send(request, _manifest_response(document), visit)
        assert digest is not None
        async with self._content.blob(repository, digest) as blob:
            return await _send(request, await file_response(request, blob), visit)

    async def _list(
        self, request: web.BaseRequest, member: str, names: list[str], document: dict[str, object], visit: Visit
    ) -> web.StreamResponse:
        chosen, link = page(names, request.query, request.path)
        body = msgspec.json.encode({**document, member: chosen})
        headers = {"Link": link} if link else {}
        return await _send(request, web.Response(body=body, content_type="application/json", headers=headers), visit)

    async def _refuse(self, request: web.BaseRequest, error: TareError, visit: Visit) -> web.StreamResponse:
        number, body = answer_of(error)
        visit.message = str(error)
        response = web.Response(body=body, content_type="application/json")
        response.set_status(number)
        if number == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="Tare", charset="UTF-8"'
        if number == 405:
            response.headers["Allow"] = ", ".join(_READ)
        return await _send(request, response, visit)


def _manifest_response(document: Document) -> web.Response:
    headers = {"Docker-Content-Digest": str(document.digest), "ETag": f'"{document.digest}"'}
    return web.Response(body=document.data, content_type=document.media_type, headers=headers)


async def _send(request: web.BaseRequest, response: web.StreamResponse, visit: Visit) -> web.StreamResponse:
    """Send it to its end, here, so that what it is made of stays in the store meanwhile."""
    response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = f"Tare/{__version__}"
    visit.begun = True
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError as error:
        raise ConnectionError(_GONE) from error
    except OSError as error:  # a client that takes nothing any more, or a disk that does not read
        raise ConnectionError(f"cut off: {error.strerror or error}") from error
    visit.number = response.status
    visit.size = response.content_length or 0 if request.method != "HEAD" else 0
    visit.digest = response.headers.get("Docker-Content-Digest", "")
    return response


def _printable(text: str) -> str:
    """What may be shown on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text[:_WORD_LIMIT])
