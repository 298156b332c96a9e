"""Logging in: basic, and bearer tokens with scopes.

Sources: the token specifications of the distribution project (``spec/auth/token``, ``spec/auth/oauth``), RFC 6750.
Tokens are kept until they expire, in memory only.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec

from tare.base.single_flight import SingleFlight
from tare.errors import DataCorrupt, Forbidden, TareError, Unauthorized, Unavailable
from tare.model import Digest
from tare.registry.challenges import Challenge, parse_challenges
from tare.registry.credentials import Credentials
from tare.registry.refusals import RETRIED, read_refusal
from tare.registry.retrying import Clock, Interrupted, retry_after
from tare.registry.settings import Endpoint
from tare.registry.transport import Request, Transport, read_bounded

_LEAST_SECONDS = 60.0  # a token without expires_in lives as long (token specification)
_EARLY_SECONDS = 5.0
_ANSWER_LIMIT = 1 << 20
_KEPT_TOKENS = 512
CLIENT_ID = "tare"
NO_BASIC = "registry-no-basic-auth"

Key = tuple[str, str, tuple[str, ...], Credentials]


class _Answer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    refresh_token: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    until: float  # of the monotonic clock


class Authenticator:
    """Makes the header ``Authorization`` that a registry's challenges ask for."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._tokens: dict[Key, _Token] = {}
        self._running: SingleFlight[_Token] = SingleFlight()

    async def authorization(
        self,
        challenges: Sequence[Challenge],
        credentials: Credentials,
        scopes: Iterable[str],
        endpoint: Endpoint,
        base: str,
    ) -> str:
        """The header's value; empty where nothing is asked for. Bearer goes before basic.

        Raises Unauthorized in the registry's words, or ``no basic auth credentials``; Forbidden when the token server
        is not encrypted though the registry is; Interrupted.
        """
        if credentials.registry_token:
            return f"Bearer {credentials.registry_token}"
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        if (bearer := by_scheme.get("bearer")) is not None:
            key = _key(bearer, credentials, scopes)
            token = self._tokens.get(key)
            if token is None or token.until <= self._clock.monotonic():
                token = await self._fetch(key, endpoint, base)
            return f"Bearer {token.value}"
        if "basic" in by_scheme:
            if not credentials.username or not credentials.password:
                raise Unauthorized("no basic auth credentials", code=NO_BASIC)
            return _basic(credentials)
        return ""

    def forget(self, challenges: Sequence[Challenge], credentials: Credentials, scopes: Iterable[str]) -> None:
        """Drop the token for these: the registry did not take it."""
        for challenge in challenges:
            if challenge.scheme == "bearer":
                self._tokens.pop(_key(challenge, credentials, scopes), None)

    async def log_in(
        self, challenge: Challenge, credentials: Credentials, endpoint: Endpoint, base: str
    ) -> tuple[str, str]:
        """The header for a bearer challenge, and the identity token that the server gives in place of the password.

        The latter is empty where it gives none. Raises as :meth:`authorization`.
        """
        key = _key(challenge, credentials, ())
        answer = await self._ask(key, endpoint, base, offline=True)
        return f"Bearer {answer.access_token or answer.token}", answer.refresh_token

    async def _fetch(self, key: Key, endpoint: Endpoint, base: str) -> _Token:
        async def fetch() -> _Token:
            begun = self._clock.monotonic()
            answer = await self._ask(key, endpoint, base)
            lifetime = max(answer.expires_in or 0.0, _LEAST_SECONDS)
            token = _Token(answer.access_token or answer.token, begun + lifetime - _EARLY_SECONDS)
            self._keep(key, token)
            return token

        realm, service, scopes, credentials = key
        secrets = [credentials.username, credentials.password, credentials.identity_token]
        name = Digest.of(msgspec.json.encode([realm, service, scopes, secrets]))
        return await self._running.do(str(name), fetch)

    def _keep(self, key: Key, token: _Token) -> None:
        if len(self._tokens) >= _KEPT_TOKENS:
            now = self._clock.monotonic()
            self._tokens = {known: kept for known, kept in self._tokens.items() if kept.until > now}
            if len(self._tokens) >= _KEPT_TOKENS:
                self._tokens.clear()
        self._tokens[key] = token

    async def _ask(self, key: Key, endpoint: Endpoint, base: str, *, offline: bool = False) -> _Answer:
        realm, _, _, _ = key
        if not realm:
            raise Unavailable("no realm specified for token auth challenge", code="registry-challenge")
        url = urljoin(base, realm)
        if urlsplit(url).scheme != "https" and base.startswith("https:") and not endpoint.allows_plain:
            raise Forbidden(
                f"{endpoint.domain}: the token server {url} is not encrypted, though the registry is",
                hint=f'set [registries."{endpoint.domain}"] insecure = true if you trust the network',
                code="registry-plain-token-server",
            )
        request = _token_request(url, key, offline=offline)
        async with self._transport.open(request, endpoint) as response:
            body = await read_bounded(response, _ANSWER_LIMIT, f"token of {url}")
            if response.status >= 400:
                challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
                error: TareError = read_refusal(response.status, body, challenges).error()
                if response.status in RETRIED:
                    raise Interrupted(error, retry_after(response.headers, self._clock))
                raise error
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.DecodeError, msgspec.ValidationError) as error_:
            raise DataCorrupt(f"{url}: unable to decode token response", code="registry-token") from error_
        if not answer.token and not answer.access_token:
            raise Unauthorized("authorization server did not include a token in the response", code="registry-token")
        return answer


def _key(challenge: Challenge, credentials: Credentials, scopes: Iterable[str]) -> Key:
    parameters = challenge.parameters
    return parameters.get("realm", ""), parameters.get("service", ""), tuple(sorted(set(scopes))), credentials


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _token_request(url: str, key: Key, *, offline: bool) -> Request:
    """GET with basic credentials or none; POST (OAuth 2) for an identity token."""
    _, service, scopes, credentials = key
    if credentials.identity_token:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credentials.identity_token,
            "service": service,
            "client_id": CLIENT_ID,
            **({"scope": " ".join(scopes)} if scopes else {}),
        }
        body = urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Request("POST", url, headers=headers, body=lambda: body)
    asked = [("service", service)] if service else []
    asked += [("scope", scope) for scope in scopes]
    authorization = ""
    if credentials.username and credentials.password:
        asked.append(("account", credentials.username))
        authorization = _basic(credentials)
    if offline:
        asked += [("offline_token", "true"), ("client_id", CLIENT_ID)]
    separator = "&" if urlsplit(url).query else "?"
    return Request("GET", url + (separator + urlencode(asked) if asked else ""), authorization=authorization)
