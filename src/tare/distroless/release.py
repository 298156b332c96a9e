"""Release files: signature, origin, validity, and the digests of the indexes they vouch for.

Sources of the rules: apt-secure(8), https://wiki.debian.org/DebianRepository/Format.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from tare.base.process import run
from tare.distroless.control import parse_paragraphs
from tare.errors import DataCorrupt, Unavailable

RELEASE_LIMIT = 8 << 20  # bytes; main's is 150 kB
_CLOCK_SKEW = 3600.0  # seconds that a release may lie in the future
_FILE_LINE = re.compile(r"\s*([0-9a-f]{64})\s+(\d+)\s+(\S+)")


@dataclass(frozen=True, slots=True)
class IndexFile:
    """Size and sha256 of a file below the suite's directory."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Release:
    """What a verified ``InRelease`` says. ``date`` is in seconds since the epoch."""

    origin: str
    label: str
    suite: str
    codename: str
    date: float
    by_hash: bool
    architectures: frozenset[str]
    files: Mapping[str, IndexFile]


async def verify_signature(data: bytes, keyring: Path, *, what: str) -> str:
    """Check the inline signature with gpgv and return only the text that was signed.

    Raises DataCorrupt for a wrong or missing signature, Unavailable when gpgv or the keyring is missing.
    """
    if not data.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
        raise DataCorrupt(f"{what}: not a signed release file", hint="does the mirror answer with a login page?")
    if not os.access(keyring, os.R_OK):
        raise Unavailable(f"{keyring}: no such keyring", hint="install debian-archive-keyring", code="keyring-missing")
    argv = ("gpgv", "--status-fd", "2", "--keyring", os.fspath(keyring), "--output", "-")
    result = await run(argv, stdin=data, env={**os.environ, "GNUPGHOME": "/nonexistent"}, timeout=60)
    statuses = {line[1] for line in map(bytes.split, result.stderr.splitlines()) if line[:1] == [b"[GNUPG:]"]}
    # gpgv fails when one of several keys is unknown to it; apt asks for at least one good and no bad one
    if not {b"VALIDSIG", b"GOODSIG"} <= statuses or b"BADSIG" in statuses:
        raise DataCorrupt(
            f"{what}: signature verification failed: {_reason(statuses)}",
            hint=f"the mirror is damaged or not signed by a key in {keyring}",
            code="archive-signature",
        )
    return result.stdout.decode(errors="replace")


def _reason(statuses: set[bytes]) -> str:
    for status, reason in (
        (b"BADSIG", "the content does not match the signature"),
        (b"EXPKEYSIG", "the key has expired"),
        (b"REVKEYSIG", "the key was revoked"),
        (b"EXPSIG", "the signature has expired"),
        (b"NO_PUBKEY", "signed by a key that is not trusted"),
    ):
        if status in statuses:
            return reason
    return "no valid signature"


def parse_release(text: str, *, what: str) -> Release:
    """Read a verified release text; raises DataCorrupt naming the field at fault."""
    paragraphs = parse_paragraphs(text, what=what)
    if len(paragraphs) != 1:
        raise DataCorrupt(f"{what}: {len(paragraphs)} paragraphs, expected one")
    fields = paragraphs[0]
    files: dict[str, IndexFile] = {}
    for line in fields.get("SHA256", "").splitlines():
        match = _FILE_LINE.fullmatch(line)
        if match:
            files[match[3]] = IndexFile(match[3], match[1], int(match[2]))
    if not files:
        raise DataCorrupt(f"{what}: lists no files with SHA256")
    return Release(
        origin=fields.get("Origin", ""),
        label=fields.get("Label", ""),
        suite=fields.get("Suite", ""),
        codename=fields.get("Codename", ""),
        date=_date(fields, "Date", what),
        by_hash=fields.get("Acquire-By-Hash", "no") == "yes",
        architectures=frozenset(fields.get("Architectures", "").split()),
        files=files,
    )


def check_validity(text: str, *, what: str, now: float | None = None) -> None:
    """Raise DataCorrupt when a verified release is past ``Valid-Until`` or lies in the future."""
    fields = parse_paragraphs(text, what=what)[0]
    now = time.time() if now is None else now
    if _date(fields, "Date", what) > now + _CLOCK_SKEW:
        raise DataCorrupt(f"{what}: dated {fields['Date']}, in the future", hint="check this machine's clock")
    if "Valid-Until" in fields and _date(fields, "Valid-Until", what) < now:
        raise DataCorrupt(
            f"{what}: expired on {fields['Valid-Until']}",
            hint="the mirror is stale: choose another, or set archive.check_dates to false for a snapshot",
            code="release-expired",
        )


def _date(fields: Mapping[str, str], name: str, what: str) -> float:
    try:
        return parsedate_to_datetime(fields[name]).timestamp()
    except (KeyError, ValueError) as error:
        raise DataCorrupt(f"{what}: {name} is missing or no date") from error
