"""Credentials of registries as Docker's clients keep them: in ``config.json``, or with helper programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tare.client.credential_helpers import CredentialHelper
from tare.client.docker_config import (
    Document,
    auth_of,
    change_config,
    config_path,
    entry_of,
    parse_config,
    read_config,
)
from tare.client.registry_auth import RegistryAuth, host_of, key_of
from tare.errors import TareError

ENVIRONMENT = "DOCKER_AUTH_CONFIG"
"""A variable with ``{"auths": …}``, which goes before everything else."""


class CredentialStore:
    """Where one user's credentials are. Keys are those of :func:`tare.client.registry_auth.key_of`.

    Which helper keeps a key says the configuration: ``credHelpers`` for single registries, else ``credsStore``; without
    any the file itself keeps the credentials, unencrypted. Calls may wait for a helper. They raise InvalidArgument for
    a configuration that cannot be read, NotFound and InternalError for helpers.
    """

    def __init__(self, path: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self.path = path or config_path(self._environ)

    @property
    def is_overridden(self) -> bool:
        """Whether the environment names credentials that go before the stored ones."""
        return bool(self._environ.get(ENVIRONMENT))

    def find(self, key: str) -> RegistryAuth:
        """The credentials of ``key``; empty when there are none."""
        if self.is_overridden:
            given = parse_config(self._environ[ENVIRONMENT], ENVIRONMENT)
            if not (found := _from_entries(given, key, ENVIRONMENT)).is_empty:
                return found
        document = read_config(self.path)
        if name := _helper(document, key):
            return CredentialHelper(name).get(key)
        return _from_entries(document, key, str(self.path))

    def find_all(self, on_failure: Callable[[TareError], None]) -> dict[str, RegistryAuth]:
        """All credentials by key; what cannot be had is handed to ``on_failure`` and left out."""
        known: dict[str, RegistryAuth] = {}

        def gather(find: Callable[[], Mapping[str, RegistryAuth]]) -> None:
            try:
                known.update(find())
            except TareError as error:
                on_failure(error)

        document = read_config(self.path)
        if default := document.get("credsStore"):
            helper = CredentialHelper(str(default))
            gather(lambda: {key: helper.get(key) for key in helper.list()})
        else:
            for key, entry in _entries(document).items():
                gather(lambda key=key, entry=entry: {key: auth_of(entry, key, str(self.path))})  # type: ignore[misc]
        for key, name in (document.get("credHelpers") or {}).items():
            gather(lambda key=key, name=name: {key: CredentialHelper(str(name)).get(key)})  # type: ignore[misc]
        if self.is_overridden:
            given = parse_config(self._environ[ENVIRONMENT], ENVIRONMENT)
            gather(lambda: {key: auth_of(entry, key, ENVIRONMENT) for key, entry in _entries(given).items()})
        return {key: auth for key, auth in known.items() if not auth.is_empty}

    def store(self, auth: RegistryAuth) -> bool:
        """Keep ``auth`` under its server; returns whether a password has been written into the file, unencrypted."""
        name = _helper(read_config(self.path), auth.server)
        if name:
            CredentialHelper(name).store(auth)
        entry = {} if name else entry_of(auth)

        def put(document: Document) -> None:
            document["auths"] = {**_entries(document), auth.server: entry}

        return change_config(self.path, put) and bool(entry)

    def erase(self, key: str) -> None:
        """Forget the credentials of ``key``; that there are none is no failure of the file, but may be a helper's."""
        document = read_config(self.path)
        if name := _helper(document, key):
            CredentialHelper(name).erase(key)
        if key not in _entries(document):
            return

        def drop(document: Document) -> None:
            _entries(document).pop(key, None)

        change_config(self.path, drop)

    def of_registry(self, domain: str) -> RegistryAuth:
        """The credentials of the registry ``domain`` of a reference."""
        return self.find(key_of(domain))


def _entries(document: Document) -> dict[str, Any]:
    entries: dict[str, Any] = document.get("auths") or {}
    return entries


def _helper(document: Document, key: str) -> str:
    return str((document.get("credHelpers") or {}).get(key) or document.get("credsStore") or "")


def _from_entries(document: Document, key: str, where: str) -> RegistryAuth:
    """Keys written by other clients may have a scheme and a path."""
    entries = _entries(document)
    found = key if key in entries else next((name for name in entries if host_of(name) == key), "")
    return auth_of(entries[found], found, where) if found else RegistryAuth()
