"""Why a connection failed, in the words of Go's ``net``, ``crypto/tls`` and ``crypto/x509``."""

from __future__ import annotations

import errno
import os
import re
import ssl
from urllib.parse import urlsplit, urlunsplit

_CALL = re.compile(r"Connect call failed \('([^']+)', (\d+)")
_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})  # X509_V_ERR_…: self-signed, in the chain, no issuer, no signature
_NOT_YET_VALID, _EXPIRED = 9, 10
_HOST_MISMATCH, _ADDRESS_MISMATCH = 62, 64
_PLAIN_ANSWERS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def shown_url(url: str) -> str:
    """``url`` as messages have it: without user and query, which may hold secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def dial_failure(error: BaseException, url: str) -> str:
    """The cause of ``error``, which a request to ``url`` met."""
    import aiohttp

    host, port = _place(url)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {host}: no such host"
    tls = tls_cause(error)
    if tls is not None:
        return _tls_words(tls, host)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"proxyconnect tcp: {_connect_words(error.os_error, error.host, str(error.port))}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"proxy: {error.status} {error.message}"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"dial tcp {_joined(host, port)}: i/o timeout"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _connect_words(error.os_error, host, port)
    if isinstance(error, TimeoutError):
        return "net/http: timeout awaiting response"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(error, OSError) and error.errno:
        return f"{_joined(host, port)}: {os.strerror(error.errno).lower()}"
    return str(error) or type(error).__name__


def dial_fix(error: BaseException, domain: str) -> str:
    """What helps against ``error``, where that is a setting of the registry ``domain``; else empty."""
    tls = tls_cause(error)
    if isinstance(tls, ssl.SSLCertVerificationError) and tls.verify_code in _UNKNOWN_AUTHORITY:
        return f'name its authority: [registries."{domain}"] ca = "FILE", or /etc/tare/certs.d/{domain}/ca.crt'
    if tls is not None and any(word in (tls.reason or "") for word in _PLAIN_ANSWERS):
        return f'if you trust the network, set [registries."{domain}"] insecure = true'
    return ""


def lasts(error: BaseException) -> bool:
    """Whether another attempt would meet the same: certificates do not change in seconds."""
    import aiohttp

    if isinstance(error, aiohttp.InvalidURL):
        return True
    tls = tls_cause(error)
    return tls is not None and not isinstance(tls, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def tls_cause(error: BaseException) -> ssl.SSLError | None:
    """The TLS error behind ``error``, if there is one."""
    import aiohttp

    candidates = [error.__cause__, error.__context__, error]
    if isinstance(error, aiohttp.ClientConnectorError):
        candidates.append(error.os_error)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        candidates.append(error.certificate_error)
    # aiohttp's own classes are TLS errors, too, without the fields of one
    own = (found for found in candidates if not isinstance(found, aiohttp.ClientError))
    return next((found for found in own if isinstance(found, ssl.SSLError)), None)


def _tls_words(error: ssl.SSLError, host: str) -> str:
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {_certificate_words(error, host)}"
    if any(word in reason for word in _PLAIN_ANSWERS):
        return "http: server gave HTTP response to HTTPS client"
    if "CERTIFICATE_REQUIRED" in reason:
        return "remote error: tls: certificate required"
    if "BAD_CERTIFICATE" in reason:
        return "remote error: tls: bad certificate"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "EOF"
    return f"tls: {reason.lower().replace('_', ' ') or error}"


def _certificate_words(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return "certificate signed by unknown authority"
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        return "certificate has expired or is not yet valid"
    if error.verify_code in (_HOST_MISMATCH, _ADDRESS_MISMATCH):
        return f"certificate is not valid for {host}"
    return error.verify_message


def _connect_words(error: OSError, host: str, port: str) -> str:
    match = _CALL.search(str(error))
    place = _joined(*match.groups()) if match is not None else _joined(host, port)
    number = error.errno or errno.ECONNREFUSED
    return f"dial tcp {place}: connect: {os.strerror(number).lower()}"


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.hostname or "", str(parts.port or (443 if parts.scheme == "https" else 80))


def _joined(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
