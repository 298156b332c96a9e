"""What the groups of calls need of the client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from tare.client.http import Body, Query, Response
from tare.client.registry_auth import RegistryAuth

Document = dict[str, Any]
"""A JSON object of the Engine API."""

Documents = list[Document]
Values = dict[str, "str | int | bool | list[str] | None"]
"""The values of a query."""

Filters = Mapping[str, list[str]]


class Caller(Protocol):
    """Sends requests to one engine."""

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
        ...

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
        ...

    async def auth_headers(self, name: str, auth: RegistryAuth | None) -> dict[str, str]:
        """The headers that tell the engine how to log in to the registry of ``name``; None: with what is stored."""
        ...


class Group:
    """A group of calls."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller


def filters_text(filters: Filters | None) -> str:
    """The ``filters`` of a query; empty without any."""
    return json.dumps(dict(filters)) if filters else ""
