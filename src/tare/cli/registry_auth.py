"""The credentials that commands send along: those of the user's configuration."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tare.client.registry_auth import RegistryAuth, config_headers
from tare.errors import TareError

if TYPE_CHECKING:
    from tare.model import Reference


def stored_auth(reference: Reference) -> RegistryAuth:
    """What is kept for the registry of ``reference``; where it cannot be had, a warning and nothing, as in Docker."""
    if reference.is_virtual:
        return RegistryAuth()
    from tare.client.credentials import CredentialStore

    try:
        return CredentialStore().of_registry(reference.domain)
    except TareError as error:
        _warn(error)
        return RegistryAuth()


def build_headers() -> dict[str, str]:
    """The header with all credentials, for builds: which registries they need is known when they run."""
    from tare.client.credentials import CredentialStore

    try:
        return config_headers(CredentialStore().find_all(_warn))
    except TareError as error:
        _warn(error)
        return {}


def _warn(error: TareError) -> None:
    hint = f" ({error.hint})" if error.hint else ""
    print(f"WARNING: {error.message}{hint}", file=sys.stderr, flush=True)
