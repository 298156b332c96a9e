"""What a container's ``/etc/resolv.conf`` and ``/etc/hosts`` say."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tare.network.model import Endpoint

DNS_ADDRESS = "127.0.0.11"
"""Where containers on user-defined networks ask for names, as in Docker."""

FALLBACK_NAMESERVERS = ("8.8.8.8", "8.8.4.4")
"""Docker's choice for a host whose only nameservers are on its loopback."""


@dataclass(frozen=True, slots=True)
class ResolverConfig:
    """The lines of a resolv.conf(5) that matter."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def render(self) -> str:
        """The file's text."""
        lines = [f"nameserver {server}" for server in self.nameservers]
        if self.search:
            lines.append("search " + " ".join(self.search))
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "\n".join(lines) + "\n"


def parse_resolv_conf(text: str) -> ResolverConfig:
    """Read a resolv.conf(5); unknown lines are skipped, of several ``search`` lines the last counts."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            nameservers.append(words[1])
        elif words[0] in {"search", "domain"}:
            search = tuple(words[1:])
        elif words[0] == "options":
            options.extend(words[1:])
    return ResolverConfig(tuple(nameservers), search, tuple(options))


def read_resolv_conf(path: Path) -> ResolverConfig:
    """The host's resolver configuration; empty when there is no file."""
    try:
        return parse_resolv_conf(path.read_text(errors="replace"))
    except FileNotFoundError:
        return ResolverConfig()


def host_resolver(host: ResolverConfig) -> ResolverConfig:
    """The host's configuration as a container on the default bridge can use it: IPv4 servers outside loopback."""
    servers = tuple(server for server in host.nameservers if _reachable(server))
    return ResolverConfig(servers or FALLBACK_NAMESERVERS, host.search, host.options)


def container_resolver(
    host: ResolverConfig,
    *,
    embedded: bool,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
) -> ResolverConfig:
    """A container's configuration; ``dns``, ``search`` and ``options`` are the user's and replace the host's."""
    base = host_resolver(host)
    wanted_search = tuple(item for item in search if item != ".") if search else base.search
    wanted_options = tuple(options) if options else base.options
    if not embedded:
        return ResolverConfig(tuple(dns) or base.nameservers, wanted_search, wanted_options)
    if not any(option.startswith("ndots:") for option in wanted_options):
        wanted_options = (*wanted_options, "ndots:0")
    return ResolverConfig((DNS_ADDRESS,), wanted_search, wanted_options)


def hosts_file(
    *,
    hostname: str,
    domainname: str = "",
    endpoints: Sequence[Endpoint] = (),
    extra_hosts: Sequence[tuple[str, str]] = (),
) -> str:
    """The text of ``/etc/hosts``: loopback names, ``extra_hosts`` as (name, address), then the container itself."""
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "ff00::\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
    ]
    lines += [f"{address}\t{name}" for name, address in extra_hosts]
    short, dot, _ = hostname.partition(".")
    own = f"{hostname}.{domainname} {hostname}" if domainname else f"{hostname} {short}" if dot else hostname
    lines += [f"{endpoint.address}\t{own}" for endpoint in endpoints if endpoint.address]
    return "\n".join(lines) + "\n"


def _reachable(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback
