"""Logging in: whether a registry takes somebody's credentials. Nothing is kept; credentials are the client's."""

from __future__ import annotations

from tare.errors import InvalidArgument
from tare.model.reference import DEFAULT_DOMAIN, is_domain, normal_domain
from tare.registry.client import RegistryClient
from tare.registry.credentials import Credentials, domain_of


class RegistryLogins:
    """Tries credentials for clients."""

    def __init__(self, registries: RegistryClient) -> None:
        self._registries = registries

    async def check(self, server: str, credentials: Credentials) -> str:
        """Try them at ``server`` (a domain or an address; empty: that of names without one).

        Returns an identity token to be kept instead of the password, or nothing. Raises InvalidArgument for no address,
        Unauthorized and Unavailable in the registry's words.
        """
        return await self._registries.check_login(server_domain(server), credentials)


def server_domain(server: str) -> str:
    """The registry that an AuthConfig's ``serveraddress`` means. Raises InvalidArgument."""
    if not server:
        return DEFAULT_DOMAIN
    try:
        domain = domain_of(server)
    except ValueError as error:
        raise _no_address(server) from error
    if not is_domain(domain):
        raise _no_address(server)
    return normal_domain(domain)


def _no_address(server: str) -> InvalidArgument:
    return InvalidArgument(
        f"unable to parse server address: {server!r}", hint="use HOST[:PORT]", code="registry-address"
    )
