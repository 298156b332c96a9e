"""The network options of ``run``, ``create`` and ``network connect`` as the API's documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tare.cli.flags import flag_error, read_mac
from tare.errors import InvalidArgument

_FLAG = "--network"
_SHARED = ("bridge", "default", "host", "none")


def read_network(text: str) -> dict[str, Any]:
    """``NAME``, or ``name=NAME,alias=…,ip=…,ip6=…,mac-address=…,link-local-ip=…,driver-opt=K=V,gw-priority=N``.

    Returns the name as ``Target`` and the members of EndpointSettings. Raises InvalidArgument.
    """
    asked: dict[str, Any] = {"Target": "", "Aliases": [], "IPAMConfig": {}, "DriverOpts": {}, "Links": []}
    if "=" not in text:
        return {**asked, "Target": text}
    for field in _fields(text):
        key, _, value = field.partition("=")
        key, value = key.strip().lower(), value.strip()
        if key == "name":
            asked["Target"] = value
        elif key == "alias":
            asked["Aliases"].append(value)
        elif key in ("ip", "ip6"):
            asked["IPAMConfig"]["IPv4Address" if key == "ip" else "IPv6Address"] = value
        elif key == "mac-address":
            asked["MacAddress"] = read_mac(value)
        elif key == "link-local-ip":
            asked["IPAMConfig"].setdefault("LinkLocalIPs", []).append(value)
        elif key == "driver-opt":
            name, equals, setting = value.partition("=")
            if not equals:
                raise flag_error(text, _FLAG, "invalid key value pair format in driver options")
            asked["DriverOpts"][name.strip().lower()] = setting.strip()
        elif key == "gw-priority":
            try:
                asked["GwPriority"] = int(value)
            except ValueError as error:
                raise flag_error(text, _FLAG, f"invalid gw-priority ({value}): invalid syntax") from error
        else:
            raise flag_error(text, _FLAG, f"invalid field key {key}")
    if not asked["Target"]:
        raise flag_error(text, _FLAG, "network name/id is not specified")
    return asked


def _fields(text: str) -> list[str]:
    import csv

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise flag_error(text, _FLAG, f"parse error: {error}") from error


def read_driver_options(texts: Iterable[str]) -> dict[str, str]:
    """``--driver-opt KEY=VALUE``. Raises InvalidArgument."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidArgument("invalid key/value pair format in driver options")
        pairs[key] = value
    return pairs


def networking(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The network mode and EndpointsConfig that the options of ``run`` ask for. Raises InvalidArgument."""
    networks = [read_network(text) for text in given["network"]] or [read_network("default")]
    _apply_options(networks[0], given)
    if len(networks) > 1 and any(_is_shared(one["Target"]) for one in networks):
        raise InvalidArgument(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            hint="give several user-defined networks, or one of host, none and container:NAME",
        )
    endpoints: dict[str, Any] = {}
    for one in networks:
        name = one.pop("Target")
        if name in endpoints:
            raise InvalidArgument(f'network "{name}" is specified multiple times')
        if one["Aliases"] and _is_shared(name):
            raise InvalidArgument(
                "network-scoped aliases are only supported for user-defined networks", hint="add --network NAME"
            )
        endpoints[name] = {member: value for member, value in one.items() if value} or None
    mode = next(iter(endpoints))
    if given["link"] and not _is_shared(mode):
        endpoints[mode] = {**(endpoints[mode] or {}), "Links": list(given["link"])}
    if mode == "default" and endpoints[mode] is None:
        return mode, {}
    return mode, endpoints


def _is_shared(name: str) -> bool:
    return name in _SHARED or name.startswith("container:")


def _apply_options(first: dict[str, Any], given: dict[str, Any]) -> None:
    """Options without a network are the first network's; what it has itself must not be given twice."""
    addresses = first["IPAMConfig"]
    for value, has, flag, what in (
        (given["network_alias"], first["Aliases"], "--network-alias", "alias"),
        (given["ip"], addresses.get("IPv4Address"), "--ip", "IPv4 address"),
        (given["ip6"], addresses.get("IPv6Address"), "--ip6", "IPv6 address"),
        (given["mac_address"], first.get("MacAddress"), "--mac-address", "MAC address"),
        (given["link_local_ip"], addresses.get("LinkLocalIPs"), "--link-local-ip", "link-local IP addresses"),
    ):
        if value and has:
            raise InvalidArgument(f"conflicting options: cannot specify both {flag} and per-network {what}")
    first["Aliases"] = first["Aliases"] or list(given["network_alias"])
    for member, value in (
        ("IPv4Address", given["ip"]),
        ("IPv6Address", given["ip6"]),
        ("LinkLocalIPs", list(given["link_local_ip"])),
    ):
        if value:
            addresses[member] = value
    first["MacAddress"] = first.get("MacAddress") or read_mac(given["mac_address"])


def read_pool(
    subnets: tuple[str, ...], gateways: tuple[str, ...], ranges: tuple[str, ...], aux: tuple[str, ...]
) -> list[dict[str, Any]]:
    """The pools that ``network create`` asks for, each option with the subnet that holds it.

    Raises InvalidArgument with Docker's words: an overlap, or an option whose subnet is not there.
    """
    from ipaddress import ip_address, ip_network

    if len(subnets) < max(len(gateways), len(ranges)):
        raise InvalidArgument("every ip-range or gateway must have a corresponding subnet", hint="add --subnet")
    pools: dict[str, dict[str, Any]] = {}
    networks: dict[str, Any] = {}
    for text in subnets:
        try:
            networks[text] = ip_network(text, strict=False) if "/" in text else None
        except ValueError:
            networks[text] = None  # the engine names what is wrong with it
        mine = networks[text]
        others = [other for name, other in networks.items() if name != text and other is not None]
        same = text in pools
        if same or (mine is not None and any(o.version == mine.version and o.overlaps(mine) for o in others)):
            raise InvalidArgument("multiple overlapping subnet configuration is not supported")
        pools[text] = {"Subnet": text}

    def holder(address: str) -> str | None:
        try:
            number = ip_address(address)
        except ValueError:
            return None
        return next((name for name, network in networks.items() if network is not None and number in network), None)

    for text in ranges:
        base = text.partition("/")[0]
        try:
            block = ip_network(text, strict=False) if "/" in text else None
        except ValueError:
            block = None
        if block is None:
            raise InvalidArgument(f"invalid CIDR address: {text}")
        name = holder(base)
        if name is None or block.prefixlen < networks[name].prefixlen:
            raise InvalidArgument(f"no matching subnet for range {text}")
        pools[name]["IPRange"] = text
    for text in gateways:
        if (name := holder(text)) is None:
            raise InvalidArgument(f"no matching subnet for gateway {text}")
        pools[name]["Gateway"] = text
    for text in aux:
        key, _, address = text.partition("=")
        if (name := holder(address)) is None:
            raise InvalidArgument(f"no matching subnet for aux-address {address}".rstrip())
        pools[name].setdefault("AuxiliaryAddresses", {})[key] = address
    return list(pools.values())
