"""Which proxy a request goes through: the variables that Go's programs read, with Go's rules.

Source: golang.org/x/net/http/httpproxy. Loopback is never asked through a proxy; ``NO_PROXY`` holds names (which stand
for their subdomains too), ``.names`` (subdomains only), addresses, networks in CIDR form, each with an optional port,
or ``*``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """Proxies by scheme; empty texts mean none. ``fixed_proxy`` holds for everything, loopback included."""

    http: str = ""
    https: str = ""
    without: tuple[str, ...] = ()
    fixed_proxy: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ProxyRules:
        """The rules of ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY``, in capitals or small letters."""

        def read(name: str) -> str:
            return environment.get(name) or environment.get(name.lower(), "")

        without = tuple(entry.strip().lower() for entry in read("NO_PROXY").split(",") if entry.strip())
        return cls(http=_complete(read("HTTP_PROXY")), https=_complete(read("HTTPS_PROXY")), without=without)

    @classmethod
    def fixed(cls, url: str) -> ProxyRules:
        """``url`` for everything; empty: no proxy at all."""
        return cls(fixed_proxy=url)

    def proxy_for(self, url: str) -> str:
        """The URL of the proxy through which ``url`` is asked; empty: directly."""
        if self.fixed_proxy is not None:
            return self.fixed_proxy
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        host = (parts.hostname or "").rstrip(".").lower()
        port = parts.port or _PORTS.get(parts.scheme, 0)
        return "" if not proxy or self._goes_directly(host, port) else proxy

    def _goes_directly(self, host: str, port: int) -> bool:
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_matches(entry, host, address, port) for entry in self.without)


def _complete(proxy: str) -> str:
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _matches(entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted_port = _split_port(entry)
    if wanted_port is not None and wanted_port != port:
        return False
    if (wanted := _address(name)) is not None:
        return wanted == address
    name = name.removeprefix("*")
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith("." + name)


def _split_port(entry: str) -> tuple[str, int | None]:
    if _address(entry) is not None:  # an IPv6 address has colons of its own
        return entry, None
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit():
        return name.strip("[]"), int(port)
    return entry.strip("[]"), None
