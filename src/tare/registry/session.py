"""One endpoint as one client sees it: which scheme it speaks, how it wants its clients to log in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

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
        endpoint, own = self.endpoint, origin(url) == origin(base)
        if not own:  # uploads may go to a storage, whose URLs say who may: it sees neither token nor certificate
            endpoint = replace(endpoint, trust=replace(endpoint.trust, identities=()))
        for last in (False, True):
            authorization = await self._authorize(shown or method, url, base, scopes) if own else ""
            request = Request(method, url, headers=headers or {}, authorization=authorization, body=body)
            async with self._transport.open(request, endpoint) as response:
                if response.status < 400:
                    yield response
                    return
                found = _challenges(response)
                heeded = response.status == 401 and origin(str(response.url)) == origin(base)
                if not heeded or last or not self._may_try_again(found, authorization, scopes):
                    await self._refuse(response, found)

    def _may_try_again(self, found: list[Challenge], authorization: str, scopes: tuple[str, ...]) -> bool:
        """After a 401: with a new token, or with what the registry has asked for only now.

        What a storage asks for, to which the registry redirects, is never heeded: it would name a token server of its
        own, and be sent the registry's password.
        """
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
        with _on_behalf_of(method, url):
            return await self._authenticator.authorization(
                self.challenges, self.credentials, scopes, self.endpoint, base
            )

    async def log_in(self) -> str:
        """Ask the registry whether it knows the user; returns an identity token, or nothing.

        Raises Unauthorized in the words of registry and Docker, Interrupted, Refusal.
        """
        base = await self.base()
        url = f"{base}/v2/"
        authorization, identity = "", ""
        bearer = next((found for found in self.challenges if found.scheme == "bearer"), None)
        if bearer is not None and not self.credentials.registry_token:
            with _on_behalf_of("Get", url):
                authorization, identity = await self._authenticator.log_in(
                    bearer, self.credentials, self.endpoint, base
                )
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
                        self.challenges = _challenges(response)
                    elif response.status in RETRIED:
                        logger.info("%s/v2/ answered %d", base, response.status)
                    return _encrypted(base, str(response.url))
            except Interrupted as interrupted:
                failure = interrupted
        assert failure is not None
        lasting = failure.lasting or not failure.connected
        raise Interrupted(failure.error, failure.wish, lasting=lasting) from failure


@contextmanager
def _on_behalf_of(method: str, url: str) -> Iterator[None]:
    """Errors of asking a token server are those of the request that needs the token, as Go's programs word them."""

    def about(error: TareError) -> TareError:
        return type(error)(f'{method.title()} "{url}": {error.message}', hint=error.hint, code=error.code)

    try:
        yield
    except TareError as error:
        raise about(error) from error
    except Interrupted as interrupted:
        raise Interrupted(
            about(interrupted.error),
            interrupted.wish,
            lasting=interrupted.lasting,
            connected=interrupted.connected,
        ) from interrupted


def _challenges(response: ClientResponse) -> list[Challenge]:
    return parse_challenges(response.headers.getall("WWW-Authenticate", []))


def _encrypted(base: str, answered: str) -> str:
    """``base``, with https where a plain endpoint sends everybody there: credentials do not follow a redirect."""
    upgraded = "https:" + base.removeprefix("http:") if base.startswith("http:") else base
    same_host = urlsplit(upgraded).hostname == urlsplit(answered).hostname
    if answered.startswith("https:") and same_host and answered.endswith("/v2/"):
        return answered.removesuffix("/v2/")
    return base
