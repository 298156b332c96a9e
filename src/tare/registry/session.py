"""One endpoint as one client sees it: which scheme it speaks, how it wants its clients to log in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from tare.errors import TareError, Unauthorized
from tare.registry.authentication import Authenticator
from tare.registry.challenges import Challenge, parse_challenges
from tare.registry.credentials import Credentials
from tare.registry.refusals import RETRIED, read_refusal
from tare.registry.retrying import Clock, Interrupted, retry_after
from tare.registry.settings import Endpoint
from tare.registry.transport import Body, Request, Transport, origin, read_bounded

if TYPE_CHECKING:
    from aiohttp import ClientResponse

logger = logging.getLogger(__name__)

_REFUSAL_LIMIT = 1 << 16


class EndpointSession:
    """Requests to one endpoint with one user's credentials; found out anew for each pull and push."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        transport: Transport,
        authenticator: Authenticator,
        clock: Clock,
    ) -> None:
        self.endpoint = endpoint
        self.credentials = credentials if endpoint.own else Credentials()
        self.challenges: list[Challenge] = []
        self._transport = transport
        self._authenticator = authenticator
        self._clock = clock
        self._base = ""
        self._contact = asyncio.Lock()

    async def base(self) -> str:
        """The URL in front of ``/v2/``; the first call finds out which of the endpoint's answers.

        Raises Interrupted when none does; lasting when none takes connections, as such a name is most often wrong.
        """
        async with self._contact:
            if not self._base:
                self._base = await self._first_that_answers()
        return self._base

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        path: str,
        *,
        scopes: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        shown: str = "",
    ) -> AsyncIterator[ClientResponse]:
        """The answer to a request for ``path`` (below the base, or a whole URL), which is a success.

        A token that the registry does not take is fetched anew once. ``shown`` is the method that messages name.
        Raises Refusal, Interrupted for what may pass, and what :meth:`Authenticator.authorization` raises.
        """
        base = await self.base()
        url = urljoin(base + "/", path) if "://" in path or path.startswith("/") else f"{base}/v2/{path}"
        scopes = tuple(scopes)
        for last in (False, True):
            authorization = ""
            if origin(url) == origin(base):  # uploads may go to a storage, whose URLs say who may
                authorization = await self._authorize(shown or method, url, base, scopes)
            request = Request(method, url, headers=headers or {}, authorization=authorization, body=body)
            async with self._transport.open(request, self.endpoint) as response:
                if response.status < 400:
                    yield response
                    return
                found = parse_challenges(response.headers.getall("WWW-Authenticate", []))
                if response.status != 401 or last or not self._may_try_again(found, authorization, scopes):
                    await self._refuse(response, found)

    def _may_try_again(self, found: list[Challenge], authorization: str, scopes: tuple[str, ...]) -> bool:
        """After a 401: with a new token, or with what the registry has asked for only now."""
        if found:
            self.challenges = found
        self._authenticator.forget(self.challenges, self.credentials, scopes)
        return bool(found) and (not authorization or authorization.startswith("Bearer "))

    async def _refuse(self, response: ClientResponse, challenges: list[Challenge]) -> None:
        body = await read_bounded(response, _REFUSAL_LIMIT, f"error of {self.endpoint.domain}")
        refusal = read_refusal(response.status, body, challenges)
        if response.status in RETRIED:
            raise Interrupted(refusal.error(), retry_after(response.headers, self._clock))
        raise refusal

    async def _authorize(self, method: str, url: str, base: str, scopes: tuple[str, ...]) -> str:
        try:
            return await self._authenticator.authorization(
                self.challenges, self.credentials, scopes, self.endpoint, base
            )
        except TareError as error:
            raise _about(error, method, url) from error
        except Interrupted as interrupted:
            about = _about(interrupted.error, method, url)
            raise Interrupted(about, interrupted.wish, lasting=interrupted.lasting) from interrupted

    async def log_in(self) -> str:
        """Ask the registry whether it knows the user; returns an identity token, or nothing.

        Raises Unauthorized in the words of registry and Docker, Interrupted, Refusal.
        """
        base = await self.base()
        url = f"{base}/v2/"
        authorization, identity = "", ""
        bearer = next((found for found in self.challenges if found.scheme == "bearer"), None)
        if bearer is not None and not self.credentials.registry_token:
            try:
                authorization, identity = await self._authenticator.log_in(
                    bearer, self.credentials, self.endpoint, base
                )
            except TareError as error:
                raise _about(error, "Get", url) from error
        elif self.challenges:
            authorization = await self._authorize("Get", url, base, ())
        async with self._transport.open(Request("GET", url, authorization=authorization), self.endpoint) as response:
            if response.status != 200:
                raise Unauthorized(
                    f"login attempt to {url} failed with status: {response.status} {response.reason}",
                    code="registry-login-failed",
                )
        return identity

    async def _first_that_answers(self) -> str:
        """Ask ``/v2/`` of each base (distribution-spec, end-1); whatever HTTP answers is an answer."""
        failure: Interrupted | None = None
        for base in self.endpoint.bases:
            try:
                async with self._transport.open(Request("GET", f"{base}/v2/"), self.endpoint) as response:
                    if response.status == 401:
                        self.challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
                    elif response.status in RETRIED:
                        logger.info("%s/v2/ answered %d", base, response.status)
                    return base
            except Interrupted as interrupted:
                failure = interrupted
        assert failure is not None
        lasting = failure.lasting or not failure.connected
        raise Interrupted(failure.error, failure.wish, lasting=lasting) from failure


def _about(error: TareError, method: str, url: str) -> TareError:
    """``error`` as that of the request on whose behalf somebody else was asked, as Go's programs word it."""
    return type(error)(f'{method.title()} "{url}": {error.message}', hint=error.hint, code=error.code)
