"""A token server for a real registry: signs what docker-registry verifies (token specification, JSON Web Tokens)."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from certificates import Certificate
from hostile_registry import HostileRegistry, hostile_registry

SERVICE, ISSUER = "registry of a test", "token server of a test"


@dataclass
class TokenServer:
    """Gives everybody ``allowed`` actions of the scopes asked for, under the name that they log in with."""

    server: HostileRegistry
    signer: Certificate
    allowed: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Settings of docker-registry that make it ask here."""
        return {
            "REGISTRY_AUTH": "token",
            "REGISTRY_AUTH_TOKEN_REALM": f"{self.server.url}/token",
            "REGISTRY_AUTH_TOKEN_SERVICE": SERVICE,
            "REGISTRY_AUTH_TOKEN_ISSUER": ISSUER,
            "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": str(self.signer.certificate),
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A token for what may be done."""
        access = []
        for scope in request.query.getall("scope", []):
            kind, name, actions = scope.split(":")
            granted = sorted(self.allowed.get(name, frozenset()) & set(actions.split(",")))
            access.append({"type": kind, "name": name, "actions": granted})
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": "ann", "aud": SERVICE, "exp": now + 300, "nbf": now - 60, "iat": now, "jti": str(now),
            "access": access,
        }  # fmt: skip
        der = "".join(self.signer.certificate.read_text().split("-----")[2].split())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        signed = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
        return web.json_response({"token": f"{signed}.{_encoded(self._signature(signed.encode()))}", "expires_in": 300})

    def _signature(self, text: bytes) -> bytes:
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.signer.key)]
        return subprocess.run(command, input=text, check=True, capture_output=True).stdout


@asynccontextmanager
async def token_server(directory: Path) -> AsyncIterator[TokenServer]:
    """A running token server with a key of its own, in ``directory``."""
    signer = Certificate(directory / "token.crt", directory / "token.key")
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens",
        "-keyout", str(signer.key), "-out", str(signer.certificate),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    async with hostile_registry() as server:
        tokens = TokenServer(server, signer)
        server.on("GET", "/token", tokens.answer)
        yield tokens


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
