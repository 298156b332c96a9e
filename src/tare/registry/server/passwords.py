"""Who may pull: users and passwords from an htpasswd file (htpasswd(1), bcrypt only)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import secrets

from tare.errors import InvalidArgument, Unauthorized

_ENTRY = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_COST_LIMIT = 14  # log2 of the rounds; 14 takes about a second
_PASSWORD_LIMIT = 72  # bytes that bcrypt looks at
_CHECKS = 2  # at a time: each takes a core
_REMEMBERED = 256
_MISSING = "authentication is required"


class Passwords:
    """The users of one htpasswd file. Passwords that were right are remembered, by a keyed digest, as each request
    brings one and bcrypt is slow on purpose."""

    def __init__(self, entries: dict[str, bytes]) -> None:
        self._entries = entries
        self._other = next(iter(entries.values()))
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, str] = {}
        self._slots = asyncio.Semaphore(_CHECKS)

    @classmethod
    def parse(cls, text: str) -> Passwords:
        """Raises InvalidArgument naming the line."""
        entries: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            user, colon, hashed = line.strip().partition(":")
            match = _ENTRY.fullmatch(hashed)
            if not user or not colon or match is None:
                raise InvalidArgument(
                    f"htpasswd line {number}: no user with a bcrypt hash",
                    hint="make it with htpasswd -B",
                    code="htpasswd",
                )
            if int(match[1]) > _COST_LIMIT:
                raise InvalidArgument(
                    f"htpasswd line {number}: bcrypt's cost {match[1]} would keep a core busy for seconds",
                    hint=f"take {_COST_LIMIT} or less (htpasswd -B -C)",
                    code="htpasswd",
                )
            entries[user] = hashed.encode()
        if not entries:
            raise InvalidArgument(
                "htpasswd: no users in it", hint="htpasswd -B -c FILE USER makes one", code="htpasswd"
            )
        return cls(entries)

    async def check(self, authorization: str) -> str:
        """The user whom an ``Authorization`` header (RFC 7617) names. Raises Unauthorized."""
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            raise Unauthorized(_MISSING, hint="log in to this registry first", code="UNAUTHORIZED")
        try:
            user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Unauthorized(_MISSING, hint="the credentials are not readable", code="UNAUTHORIZED") from error
        if not colon or not await self._is_right(user, password):
            raise Unauthorized("unknown user or wrong password", hint="log in again", code="UNAUTHORIZED")
        return user

    async def _is_right(self, user: str, password: str) -> bool:
        mark = hmac.digest(self._key, f"{user}\0{password}".encode(), "sha256")
        if mark in self._right:
            return True
        async with self._slots:
            if mark in self._right:
                return True
            # For an unknown user, too: how long it takes does not tell whether there is one.
            right = await asyncio.to_thread(_matches, password, self._entries.get(user, self._other))
        if not right or user not in self._entries:
            return False
        while len(self._right) >= _REMEMBERED:
            self._right.pop(next(iter(self._right)))
        self._right[mark] = user
        return True


def _matches(password: str, hashed: bytes) -> bool:
    import bcrypt

    return bcrypt.checkpw(password.encode().replace(b"\0", b"")[:_PASSWORD_LIMIT], hashed)
