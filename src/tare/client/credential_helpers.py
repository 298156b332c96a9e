"""Programs that keep credentials: ``docker-credential-<name> get|store|erase|list``, JSON on standard streams.

The protocol is that of docker-credential-helpers. A secret is only ever written to a helper's standard input, never to
its arguments; what it says on standard error goes to the terminal.
"""

from __future__ import annotations

import json
from typing import Any

from tare.client.registry_auth import RegistryAuth
from tare.errors import InternalError, InvalidArgument, NotFound

PREFIX = "docker-credential-"
CODE = "credential-helper"
_NOT_FOUND = "credentials not found in native keychain"
_IDENTITY = "<token>"  # a user of which the secret is an identity token


class CredentialHelper:
    """The helper ``name``; its calls wait for the program, which may ask its user something.

    All of them raise NotFound when there is no such program, InternalError when it fails.
    """

    def __init__(self, name: str) -> None:
        if not name or "/" in name or "\0" in name:
            raise InvalidArgument(f"{name!r} is not the name of a credential helper", hint="correct config.json")
        self.program = PREFIX + name

    def get(self, key: str) -> RegistryAuth:
        """The credentials kept under ``key``, empty ones when it keeps none."""
        output = self._run("get", key, "getting", missing=_NOT_FOUND)
        if output is None:
            return RegistryAuth()
        found = self._object(output)
        username, secret = str(found.get("Username") or ""), str(found.get("Secret") or "")
        if username == _IDENTITY:
            return RegistryAuth(server=key, identity_token=secret)
        return RegistryAuth(username=username, password=secret, server=key)

    def store(self, auth: RegistryAuth) -> None:
        """Keep ``auth`` under its server."""
        username, secret = auth.username, auth.password
        if auth.identity_token:
            username, secret = _IDENTITY, auth.identity_token
        self._run("store", json.dumps({"ServerURL": auth.server, "Username": username, "Secret": secret}), "storing")

    def erase(self, key: str) -> None:
        """Forget what is kept under ``key``."""
        self._run("erase", key, "erasing")

    def list(self) -> list[str]:
        """The keys under which it keeps something."""
        return [str(key) for key in self._object(self._run("list", "", "listing") or "{}")]

    def _object(self, output: str) -> dict[str, Any]:
        try:
            found = json.loads(output)
        except ValueError:
            found = None
        if not isinstance(found, dict):  # the output is not shown: it may be a secret
            raise InternalError(f"{self.program} did not answer with a JSON object", code=CODE)
        return found

    def _run(self, action: str, data: str, doing: str, *, missing: str = "") -> str | None:
        import subprocess  # few have a helper, and all wait for what is imported

        try:
            ended = subprocess.run([self.program, action], input=data.encode(), stdout=subprocess.PIPE, check=False)
        except FileNotFoundError as error:
            raise NotFound(
                f'error {doing} credentials - err: exec: "{self.program}": executable file not found in $PATH, out: ``',
                hint="install the helper, or take it out of config.json",
                code=CODE,
            ) from error
        except OSError as error:
            raise InternalError(f"error {doing} credentials - {self.program}: {error.strerror}", code=CODE) from error
        output = ended.stdout.decode(errors="replace").strip()
        if ended.returncode == 0:
            return output
        if missing and output == missing:
            return None
        how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"exit status {ended.returncode}"
        raise InternalError(f"error {doing} credentials - err: {how}, out: `{output}`", code=CODE)
