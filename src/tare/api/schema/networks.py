"""Networks as the API takes and gives them (Network, EndpointResource, the create request)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tare.api.params import convert, without_nulls
from tare.engine.requests import NetworkCreate
from tare.errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from tare.network.model import Endpoint, Network


class _PoolBody(msgspec.Struct, kw_only=True):
    subnet: str = msgspec.field(name="Subnet", default="")
    gateway: str = msgspec.field(name="Gateway", default="")
    ip_range: str = msgspec.field(name="IPRange", default="")


class _NetworkBody(msgspec.Struct, rename="pascal", kw_only=True):
    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    enable_ipv6: bool = msgspec.field(name="EnableIPv6", default=False)
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


def read_create(document: dict[str, Any]) -> NetworkCreate:
    """The body of ``POST /networks/create``; raises InvalidArgument, Unsupported."""
    values = without_nulls(document)
    ipam = without_nulls(values.pop("IPAM", None) or {})
    body = convert(values, _NetworkBody)
    pools = [convert(without_nulls(pool), _PoolBody) for pool in ipam.get("Config") or []]
    pools = [pool for pool in pools if pool.subnet or pool.gateway or pool.ip_range]
    if len(pools) > 1:
        raise Unsupported("a network has one IPv4 subnet; several are not supported")
    if body.enable_ipv6:
        raise Unsupported("IPv6 networks are not supported yet; leave out --ipv6")
    if body.config_only or body.ingress:
        raise Unsupported("config-only and ingress networks are not supported; they belong to swarm mode")
    if body.scope not in ("", "local"):
        raise InvalidArgument(f"network scope {body.scope!r} is not supported: only local")
    pool = pools[0] if pools else _PoolBody()
    return NetworkCreate(
        name=body.name,
        driver=body.driver or "bridge",
        subnet=pool.subnet,
        gateway=pool.gateway,
        ip_range=pool.ip_range,
        internal=body.internal,
        attachable=body.attachable,
        labels=body.labels,
        options=body.options,
    )


def render_network(network: Network, endpoints: Mapping[str, tuple[str, Endpoint]] | None = None) -> dict[str, Any]:
    """Network; ``endpoints`` (container name and endpoint by container id) become its Containers."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": network.created,
        "Scope": "local",
        "Driver": network.driver.stored_as,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Options": network.ipam_options or None,
            "Config": [
                {
                    "Subnet": pool.subnet,
                    **({"IPRange": pool.ip_range} if pool.ip_range else {}),
                    "Gateway": pool.gateway,
                }
                for pool in network.subnets
            ],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container: _render_endpoint(name, endpoint) for container, (name, endpoint) in (endpoints or {}).items()
        },
        "Options": network.options,
        "Labels": network.labels,
    }


def _render_endpoint(name: str, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "Name": name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": f"{endpoint.address}/{endpoint.prefix_len}" if endpoint.address else "",
        "IPv6Address": "",
    }
