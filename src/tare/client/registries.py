"""Registries, as the engine reaches them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tare.client.caller import Document, Group, Values
from tare.client.http import segment
from tare.client.registry_auth import RegistryAuth


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A registry's answer to a login: words, and a token to be kept instead of the password (may be empty)."""

    status: str
    identity_token: str = field(default="", repr=False)


class Registries(Group):
    """Registries of images; nothing is kept by these calls, see :mod:`tare.client.credentials`."""

    async def login(self, auth: RegistryAuth) -> LoggedIn:
        """Have the engine try ``auth`` at ``auth.server``. Raises Unauthorized, Unavailable, InvalidArgument."""
        answer: Document = await self._caller.call("POST", "/auth", document=auth.document())
        return LoggedIn(str(answer.get("Status") or ""), str(answer.get("IdentityToken") or ""))

    async def distribution(self, name: str, *, auth: RegistryAuth | None = None) -> Document:
        """Descriptor and platforms of the image ``name`` at its registry. Raises NotFound, Unauthorized."""
        headers = await self._caller.auth_headers(name, auth)
        path = f"/distribution/{segment(name)}/json"
        found: Document = await self._caller.call("GET", path, headers=headers)
        return found

    async def referrers(self, name: str, *, artifact_type: str = "", auth: RegistryAuth | None = None) -> Document:
        """What refers to the image ``name`` at its registry: ``subject``, its digest, and ``referrers``, descriptors.

        Raises NotFound, Unauthorized.
        """
        headers = await self._caller.auth_headers(name, auth)
        path = f"/tare/distribution/{segment(name)}/referrers"
        query: Values = {"artifactType": artifact_type}
        found: Document = await self._caller.call("GET", path, query=query, headers=headers)
        return found
