"""The client of all registries: connections, tokens and downloads that repositories share."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tare.model import Reference
from tare.registry.authentication import Authenticator
from tare.registry.credentials import Credentials
from tare.registry.downloads import Downloads
from tare.registry.repository import Repository
from tare.registry.retrying import Attempts, Clock, RetryPolicy, SystemClock
from tare.registry.session import EndpointSession
from tare.registry.settings import Registries
from tare.registry.transport import Timeouts, Transport
from tare.version import __version__

PARALLEL = 4
"""Blobs that are on their way in each direction at the same time."""


class RegistryClient:
    """One per engine. ``downloads`` is the directory in which blobs arrive; :meth:`close` ends all connections."""

    def __init__(
        self,
        registries: Registries,
        downloads: Path,
        *,
        clock: Clock | None = None,
        policy: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.downloads = Downloads(downloads)
        self._registries = registries
        self._clock: Clock = clock or SystemClock()
        self._policy = policy or RetryPolicy()
        self._transport = Transport(user_agent=f"tare/{__version__}", timeouts=timeouts)
        self._authenticator = Authenticator(self._transport, self._clock)
        self._incoming = asyncio.Semaphore(PARALLEL)
        self._outgoing = asyncio.Semaphore(PARALLEL)

    async def close(self) -> None:
        """End all connections; idempotent."""
        await self._transport.close()

    def repository(self, name: Reference, credentials: Credentials | None = None, *, push: bool = False) -> Repository:
        """The repository of ``name`` (whose tag and digest do not matter), for one pull or push; nothing is asked yet.

        What is wrong with the settings of its registry is raised by the repository's first question: Unavailable
        (``registry-not-configured``), InvalidArgument (``registry-certificates``, ``virtual-registry``).
        """

        async def open_sessions() -> list[EndpointSession]:
            return await self._sessions(name.domain, credentials, push=push)

        slots = self._outgoing if push else self._incoming
        return Repository(name, open_sessions, self._attempts, self.downloads, slots, push=push)

    async def check_login(self, domain: str, credentials: Credentials) -> str:
        """Whether the registry knows the user: its identity token, to be kept in place of the password, or ``""``.

        Raises Unauthorized in the words of registry and Docker, Unavailable without connection.
        """
        (session,) = await self._sessions(domain, credentials, push=True)
        return await self._attempts().run(session.log_in)

    async def _sessions(self, domain: str, credentials: Credentials | None, *, push: bool) -> list[EndpointSession]:
        endpoints = await asyncio.to_thread(self._registries.endpoints, domain, push=push)
        known = credentials or Credentials()
        return [
            EndpointSession(endpoint, known, self._transport, self._authenticator, self._clock)
            for endpoint in endpoints
        ]

    def _attempts(self) -> Attempts:
        return Attempts(self._policy, self._clock)
