"""Networks as the API takes and gives them (Network, EndpointResource, the create request)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tare.api.params import convert, without_nulls
from tare.engine.requests import NetworkCreate
from tare.errors import InvalidArgument, Unsupported
from tare.network.request import PoolRequest

if TYPE_CHECKING:
    from tare.network.model import Endpoint, Network, Subnet


_ENABLE_OPTION = "com.docker.network.enable_ipv"
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


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
    enable_ipv4: bool | None = msgspec.field(name="EnableIPv4", default=None)
    enable_ipv6: bool | None = msgspec.field(name="EnableIPv6", default=None)
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
    if body.config_only or body.ingress or ((document.get("ConfigFrom") or {}).get("Network")):
        raise Unsupported("config-only and ingress networks are not supported; they belong to swarm mode")
    if body.scope not in ("", "local"):
        raise InvalidArgument(f"network scope {body.scope!r} is not supported: only local")
    return NetworkCreate(
        name=body.name,
        driver=body.driver or "bridge",
        pools=[
            PoolRequest(
                subnet=pool.subnet, gateway=pool.gateway, ip_range=pool.ip_range, aux_addresses=pool.aux_addresses
            )
            for pool in pools
        ],
        ipv4=_enabled(4, body.enable_ipv4, body.options, default=True),
        ipv6=_enabled(6, body.enable_ipv6, body.options, default=False),
        internal=body.internal,
        attachable=body.attachable,
        labels=body.labels,
        options=body.options,
        ipam_driver=settings.driver or "default",
        ipam_options=settings.options,
    )


def _enabled(version: int, asked: bool | None, options: Mapping[str, str], *, default: bool) -> bool:
    """Whether a network is to have a family: as asked, else as the driver option says. Raises InvalidArgument."""
    name = f"{_ENABLE_OPTION}{version}"
    value = options.get(name)
    if value is not None and value not in (*_TRUE, *_FALSE):
        raise InvalidArgument(f'driver-opt "{name}" is not a valid bool')
    if asked is not None:
        return asked
    return default if value is None else value in _TRUE


def render_network(network: Network, endpoints: Mapping[str, tuple[str, Endpoint]] | None = None) -> dict[str, Any]:
    """Network; ``endpoints`` (container name and endpoint by container id) become its Containers."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": network.created,
        "Scope": "local",
        "Driver": network.driver.stored_as,
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": None if network.predefined else network.ipam_options,
            "Config": [_render_pool(pool) for pool in _shown_pools(network)] or None,
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


def _shown_pools(network: Network) -> list[Subnet]:
    """Pools in Docker's order: those that were asked for, then those that the engine chose, IPv4 before IPv6."""
    given = {4: network.subnet_given, 6: network.subnet6_given}
    pools = sorted((*network.subnets, *network.idle_subnets), key=lambda pool: pool.version)
    return sorted(pools, key=lambda pool: not given[pool.version])


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
        "IPv6Address": f"{endpoint.address6}/{endpoint.prefix_len6}" if endpoint.address6 else "",
    }
