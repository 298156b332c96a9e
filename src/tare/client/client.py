"""The client: everything that an engine offers, as typed coroutines."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tare.client.audits import Audits
from tare.client.builds import Builds
from tare.client.catalogue import Catalogue
from tare.client.containers import Containers
from tare.client.debugging import Debugging
from tare.client.endpoint import Endpoint
from tare.client.execs import Execs
from tare.client.http import Body, Query, Response, request
from tare.client.images import Images
from tare.client.networks import Networks
from tare.client.reachability import Reachability
from tare.client.registries import Registries
from tare.client.registry_auth import RegistryAuth
from tare.client.serving import Serving
from tare.client.steps import Steps
from tare.client.system import System
from tare.client.volumes import Volumes
from tare.errors import Unavailable


class Client:
    """A client of the engine at ``host`` (``unix://…``, ``tcp://…``; default: ``TARE_HOST``, else the default socket).

    The default engine is started when it does not answer, unless ``start`` is false. Documents go in and come out as
    the Engine API defines them. Every call may raise the errors of :mod:`tare.errors`. With ``blocking`` the coroutines
    need no loop: :func:`tare.client.transport.drive` runs them.
    """

    def __init__(self, host: str | None = None, *, start: bool = True, blocking: bool = False) -> None:
        self.endpoint = Endpoint.find(host)
        self._blocking = blocking
        self._start = start and self.endpoint.is_default
        self.containers = Containers(self)
        self.execs = Execs(self)
        self.images = Images(self)
        self.audits = Audits(self)
        self.builds = Builds(self)
        self.catalogue = Catalogue(self)
        self.serving = Serving(self)
        self.steps = Steps(self)
        self.debugging = Debugging(self)
        self.networks = Networks(self)
        self.reachability = Reachability(self)
        self.registries = Registries(self)
        self.volumes = Volumes(self)
        self.system = System(self)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        """Nothing stays open between calls."""

    async def open(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        document: object = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        upgrade: bool = False,
    ) -> Response:
        """Send a request; the caller reads and closes the answer."""

        async def ask() -> Response:
            return await request(
                self.endpoint,
                method,
                path,
                query=query,
                document=document,
                body=body,
                headers=headers,
                upgrade=upgrade,
                blocking=self._blocking,
            )

        try:
            return await ask()
        except Unavailable as error:
            if error.code != "engine-down" or not self._start:
                raise
        await self._start_engine()
        return await ask()

    async def _start_engine(self) -> None:
        from tare.client.launcher import start_engine

        if self._blocking:
            import asyncio

            asyncio.run(start_engine(self.endpoint))
        else:
            await start_engine(self.endpoint)
        self._start = False

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        document: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request and return the answer's JSON document."""
        async with await self.open(method, path, query=query, document=document, headers=headers) as response:
            return await response.json()

    async def auth_headers(self, name: str, auth: RegistryAuth | None) -> dict[str, str]:
        """The headers that tell the engine how to log in to the registry of ``name``.

        Without ``auth`` with what the user's configuration keeps for it, see :mod:`tare.client.credentials`.
        Raises InvalidArgument for a name or a configuration that is none, NotFound and InternalError for helpers.
        """
        if auth is not None:
            return auth.headers()
        from tare.client.credentials import CredentialStore
        from tare.model import Reference

        reference = Reference.parse(name)
        if reference.is_virtual:
            return {}
        store = CredentialStore()
        if self._blocking:
            return store.of_registry(reference.domain).headers()
        import asyncio

        return (await asyncio.to_thread(store.of_registry, reference.domain)).headers()
