"""Trust stores, written without running anything: a PEM bundle for OpenSSL and GnuTLS, a JKS file for Java."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Mapping

from tare.errors import DataCorrupt

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
_JKS_MAGIC = 0xFEEDFEED
_JKS_VERSION = 2
_JKS_TRUSTED = 2  # tag of a trusted certificate's entry
_JKS_WHITENER = b"Mighty Aphrodite"
JKS_PASSWORD = "changeit"  # noqa: S105 - the JDK's own, known to everybody: it guards nothing


def pem_bundle(certificates: Mapping[str, bytes]) -> bytes:
    """All certificates, sorted by name, each ending in a newline; raises DataCorrupt for what is no certificate."""
    for name, pem in certificates.items():
        der_certificate(name, pem)
    return b"".join(certificates[name].rstrip() + b"\n" for name in sorted(certificates))


def der_certificate(name: str, pem: bytes) -> bytes:
    """The DER bytes of the one certificate in ``pem``. Raises DataCorrupt naming it."""
    found = _PEM.findall(pem)
    if len(found) != 1:
        raise DataCorrupt(f"{name}: {len(found)} certificates, expected one")
    try:
        der = base64.b64decode(b"".join(found[0].split()), validate=True)
    except binascii.Error as error:
        raise DataCorrupt(f"{name}: {error}") from error
    if der[:1] != b"\x30":
        raise DataCorrupt(f"{name}: not a DER certificate")
    return der


def java_trust_store(certificates: Mapping[str, bytes], timestamp: int) -> bytes:
    """A JKS key store of trusted certificates, readable with the password ``changeit``.

    ``timestamp`` (seconds) is the entries' date. The format is that of ``sun.security.provider.JavaKeyStore``: big
    endian; a count; for each entry tag, alias, date in ms, type and DER; then SHA-1 over password, a constant and all
    before.
    """
    body = bytearray(struct.pack(">III", _JKS_MAGIC, _JKS_VERSION, len(certificates)))
    for name in sorted(certificates):
        der = der_certificate(name, certificates[name])
        body += struct.pack(">I", _JKS_TRUSTED) + _utf(f"debian:{name.lower()}")
        body += struct.pack(">Q", timestamp * 1000) + _utf("X.509") + struct.pack(">I", len(der)) + der
    seal = hashlib.sha1(JKS_PASSWORD.encode("utf-16-be") + _JKS_WHITENER + body, usedforsecurity=False)
    return bytes(body) + seal.digest()


def _utf(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data
