"""Networks as the API takes and gives them (Network, EndpointResource, the create request)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tare.api.params import convert, without_nulls
from tare.engine.requests import NetworkCreate
from tare.errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from tare.network.model import Endpoint, Network, Subnet


class _PoolBody(msgspec.Struct, kw_only=True):
    subnet: str = msgspec.field(name="Subnet", default="")
    gateway: str = msgspec.field(name="Gateway", default="")
    ip_range: str = msgspec.field(name="IPRange", default="")
    aux_addresses: dict[str, str] = msgspec.field(name="AuxiliaryAddresses", default_factory=dict)


class _IPAMBody(msgspec.Struct, rename="pascal", kw_only=True):
    driver: str = ""
    options: dict[str, str] = {}


class _NetworkBody(msgspec.Struct, rename="pascal", kw_only=True):
    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    enable_ipv4: bool = msgspec.field(name="EnableIPv4", default=True)
    enable_ipv6: bool = msgspec.field(name="EnableIPv6", default=False)
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


def read_create(document: dict[str, Any]) -> NetworkCreate:
    """The body of ``POST /networks/create``; raises InvalidArgument, Unsupported."""
    values = without_nulls(document)
    ipam = without_nulls(values.pop("IPAM", None) or {})
    body = convert(values, _NetworkBody)
    pools = [convert(without_nulls(pool), _PoolBody) for pool in ipam.pop("Config", None) or []]
    pools = [pool for pool in pools if pool != _PoolBody()]
    settings = convert(ipam, _IPAMBody)
    if len(pools) > 1:
        raise InvalidArgument("bridge driver doesn't support multiple subnets", hint="give one subnet")
    if body.enable_ipv6:
        raise Unsupported("IPv6 networks are not supported yet; leave out --ipv6")
    if not body.enable_ipv4:
        raise InvalidArgument("IPv4 or IPv6 must be enabled")
    if body.config_only or body.ingress or ((document.get("ConfigFrom") or {}).get("Network")):
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
        aux_addresses=pool.aux_addresses,
        internal=body.internal,
        attachable=body.attachable,
        labels=body.labels,
        options=body.options,
        ipam_driver=settings.driver or "default",
        ipam_options=settings.options,
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
            "Options": None if network.predefined else network.ipam_options,
            "Config": [_render_pool(pool) for pool in network.subnets] or None,
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


def _render_pool(pool: Subnet) -> dict[str, Any]:
    return {
        "Subnet": pool.subnet,
        **({"IPRange": pool.ip_range} if pool.ip_range else {}),
        **({"Gateway": pool.gateway} if pool.gateway_shown else {}),
        **({"AuxiliaryAddresses": pool.aux_addresses} if pool.aux_addresses else {}),
    }


def _render_endpoint(name: str, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "Name": name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": f"{endpoint.address}/{endpoint.prefix_len}" if endpoint.address else "",
        "IPv6Address": "",
    }
