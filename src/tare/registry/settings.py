"""How registries are reached: endpoints, mirrors, certificates and proxies, by domain.

A domain is what stands before the first slash of an image's name, such as ``docker.io`` or ``127.0.0.1:5000``. Without
settings it is its own endpoint, reached by https; ``docker.io`` has no host behind it until one is configured.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tare.errors import InvalidArgument, Unavailable
from tare.model.reference import DEFAULT_DOMAIN, VIRTUAL_DOMAIN
from tare.registry.proxies import ProxyRules

CERTIFICATE_DIRECTORIES = ("/etc/tare/certs.d", "/etc/docker/certs.d")
NO_PROXY = "none"


class RegistrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One section ``[registries."<domain>"]``.

    ``endpoint`` is the URL that serves the domain (default: ``https://<domain>``), ``mirrors`` are URLs that are asked
    before it, pulls only. ``insecure`` allows certificates that nobody vouches for, and plain http where https does not
    answer; unset it is true for loopback without authority. ``ca``, ``certificate`` and ``key`` are paths of PEM files.
    ``proxy`` is a URL, or ``"none"``; unset, the daemon's environment decides.
    """

    endpoint: str = ""
    mirrors: tuple[str, ...] = ()
    insecure: bool | None = None
    ca: str = ""
    certificate: str = ""
    key: str = ""
    proxy: str = ""

    def __post_init__(self) -> None:
        for url in (*self.mirrors, *filter(None, (self.endpoint,))):
            check_url(url)
        if bool(self.certificate) != bool(self.key):
            raise ValueError("a client's certificate needs its key: set both certificate and key")
        if self.proxy and self.proxy != NO_PROXY and urlsplit(self.proxy).scheme not in ("http", "https"):
            raise ValueError(f"proxy {self.proxy!r}: expected http://HOST:PORT, https://HOST:PORT or none")


def check_url(url: str) -> None:
    """Raise ValueError unless ``url`` is that of an endpoint: scheme, host, at most a port and a path."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"endpoint {url!r}: expected https://HOST[:PORT][/PATH] or http://…")
    if parts.username is not None:
        raise ValueError(f"endpoint of {parts.hostname!r}: credentials do not belong here, log in instead")


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a connection trusts, and what it shows: paths of PEM files.

    ``authorities`` are trusted beside the system's, ``identities`` are pairs of certificate and key of this client.
    With ``verify`` false every server is taken.
    """

    verify: bool = True
    authorities: tuple[str, ...] = ()
    identities: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place that serves a domain.

    ``bases`` are the URLs to try, best first: more than one only where plain http is allowed. ``own`` tells the
    domain's own endpoint from a mirror, which never sees credentials.
    """

    domain: str
    bases: tuple[str, ...]
    trust: Trust
    proxies: ProxyRules
    own: bool = True

    @property
    def allows_plain(self) -> bool:
        """Whether credentials may go over plain http, because the configuration or loopback says so."""
        return any(base.startswith("http:") for base in self.bases)


class Registries:
    """All settings: the sections by domain, the directories with certificates, the daemon's environment."""

    def __init__(
        self,
        sections: Mapping[str, RegistrySettings] | None = None,
        *,
        certificate_directories: Iterable[str] = CERTIFICATE_DIRECTORIES,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._sections = dict(sections or {})
        self._directories = tuple(Path(place) for place in certificate_directories)
        self._proxies = ProxyRules.from_environment(environment or {})

    def endpoints(self, domain: str, *, push: bool = False) -> list[Endpoint]:
        """Where ``domain`` is asked, in this order; reads directories of certificates, so call it in a thread.

        Raises Unavailable for ``docker.io`` without endpoint, InvalidArgument for ``tare.local``, and for certificates
        without key and the other way round.
        """
        if domain == VIRTUAL_DOMAIN:
            raise InvalidArgument(
                f"{domain}: Tare assembles these images itself, there is no registry behind the name",
                code="virtual-registry",
            )
        section = self._sections.get(domain, RegistrySettings())
        found = [] if push else [self._endpoint(domain, url, section, own=False) for url in section.mirrors]
        if section.endpoint:
            found.append(self._endpoint(domain, section.endpoint, section, own=True))
        elif domain != DEFAULT_DOMAIN:
            found.append(self._endpoint(domain, f"https://{domain}", section, own=True))
        if not found or (push and not found[-1].own):
            raise Unavailable(
                f"{domain}: no endpoint is configured for this registry",
                hint=f'set [registries."{domain}"] endpoint = "https://…" in the daemon\'s configuration, or write the '
                "registry's host before the image's name",
                code="registry-not-configured",
            )
        return found

    def _endpoint(self, domain: str, url: str, section: RegistrySettings, *, own: bool) -> Endpoint:
        base = url.rstrip("/")
        parts = urlsplit(base)
        host = parts.netloc
        named = section if own else self._sections.get(host, section)
        trust = self._trust(host, named, also=domain if own else "")
        bases: tuple[str, ...] = (base,)
        if base.startswith("https:") and not trust.verify:
            bases = (base, "http:" + base.removeprefix("https:"))
        proxies = self._proxies
        if named.proxy:
            proxies = ProxyRules.fixed("" if named.proxy == NO_PROXY else named.proxy)
        return Endpoint(domain=domain, bases=bases, trust=trust, proxies=proxies, own=own)

    def _trust(self, host: str, section: RegistrySettings, also: str = "") -> Trust:
        authorities = [section.ca] if section.ca else []
        identities = [(section.certificate, section.key)] if section.certificate else []
        for directory in self._directories:
            for name in dict.fromkeys(filter(None, (host, also))):
                more_authorities, more_identities = read_certificates(directory / name)
                authorities += more_authorities
                identities += more_identities
        insecure = section.insecure
        if insecure is None:
            insecure = is_loopback(host) and not authorities
        return Trust(verify=not insecure, authorities=tuple(authorities), identities=tuple(identities))


def is_loopback(host: str) -> bool:
    """Whether ``host`` (with or without port) is ``localhost`` or in 127.0.0.0/8 or ``::1``."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def read_certificates(directory: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Authorities (``*.crt``) and identities (``*.cert`` with ``*.key``) of a directory, as Docker reads them.

    An absent directory has none. Raises InvalidArgument for a certificate without key, and a key without certificate.
    """
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError as error:
        raise InvalidArgument(f"{directory}: {error.strerror}", code="registry-certificates") from error
    authorities = [str(directory / name) for name in names if name.endswith(".crt")]
    identities = []
    for name in names:
        stem = name.rpartition(".")[0]
        if name.endswith(".cert"):
            if f"{stem}.key" not in names:
                raise InvalidArgument(
                    f"missing key {stem}.key for client certificate {name} in {directory}",
                    hint="CA certificates must use the extension .crt",
                    code="registry-certificates",
                )
            identities.append((str(directory / name), str(directory / f"{stem}.key")))
        elif name.endswith(".key") and f"{stem}.cert" not in names:
            raise InvalidArgument(
                f"missing client certificate {stem}.cert for key {name} in {directory}", code="registry-certificates"
            )
    return authorities, identities
