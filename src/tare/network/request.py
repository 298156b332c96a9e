"""What is asked of a new network, checked by Docker's rules and in its words. Pure.

The words are those of Docker 28.5 (``ValidateIPAM`` and the labels of its bridge driver); what Tare refuses beyond
them is said where it is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from tare.errors import Forbidden, InvalidArgument, NotFound, Unsupported
from tare.network import macvlan
from tare.network.model import PREDEFINED, Driver, GatewayMode

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_INTERFACE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}")
BRIDGE_OPTION = "com.docker.network.bridge."
MTU_OPTION = "com.docker.network.driver.mtu"
PREFIX_OPTION = "com.docker.network.container_iface_prefix"
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


class PoolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An address pool that is asked for, in the user's own words; empty where the engine may choose."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    aux_addresses: dict[str, str] = {}

    @property
    def version(self) -> int:
        """4 or 6; a pool without a subnet counts as IPv4, as in Docker."""
        return 6 if ":" in self.subnet else 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRequest:
    """What is asked of a new network; without a pool for a family that it has, the engine chooses one."""

    name: str
    driver: str = "bridge"
    ipv4: bool = True
    ipv6: bool = False
    pools: Sequence[PoolRequest] = ()
    internal: bool = False
    attachable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def families(self) -> tuple[int, ...]:
        """The families that it is to have: 4, 6, or both in this order."""
        return tuple(version for version, wanted in ((4, self.ipv4), (6, self.ipv6)) if wanted)

    def needs_no_gateway(self, version: int) -> bool:
        """Whether none has an address on it but its containers: an internal macvlan, and the gateway mode isolated."""
        isolated = self.options.get(f"{BRIDGE_OPTION}gateway_mode_ipv{version}") == GatewayMode.ISOLATED
        return self.internal and (self.driver == Driver.MACVLAN or (self.driver == Driver.BRIDGE and isolated))


class BridgeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the ``com.docker.network.*`` options say; names that are not known are kept and mean nothing."""

    bridge_name: str
    icc: bool
    masquerade: bool
    mtu: int


def check_name(request: NetworkRequest) -> None:
    """Refuse names that are taken by design, and those that no later command could use (Docker takes these)."""
    if request.name in (*PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {request.name} network")
    if not request.name.strip():
        raise InvalidArgument("invalid name: name is empty")
    if not _NAME.fullmatch(request.name):
        raise InvalidArgument(
            f"invalid network name {request.name!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        )


def check_drivers(request: NetworkRequest) -> None:
    """Refuse drivers that are not there, and what the driver macvlan cannot have.

    Raises Forbidden, NotFound, InvalidArgument, Unsupported.
    """
    if request.driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{request.driver}" network is allowed')
    if request.driver not in (Driver.BRIDGE, Driver.MACVLAN):
        raise NotFound(
            f'plugin "{request.driver}" not found',
            hint="the drivers are bridge, macvlan, host and null",
            code="no-such-driver",
        )
    if request.driver == Driver.MACVLAN:
        macvlan.check_options(request.options)
    if request.ipam_driver == "null":
        family = "ipv4" if request.ipv4 else "ipv6"
        raise Unsupported(f"{family} pool is empty", hint="a bridge needs addresses: use the IPAM driver default")
    if request.ipam_driver not in ("", "default"):
        raise NotFound(f'plugin "{request.ipam_driver}" not found', hint="the IPAM driver is default")


def check_addresses(request: NetworkRequest) -> None:
    """Check subnets, ranges, gateways and auxiliary addresses against each other.

    Pools of IPv6 are not looked at where the network has none, those of IPv4 always (Docker's
    ``network.ValidateIPAM``). Raises InvalidArgument with all faults.
    """
    if not (request.ipv4 or request.ipv6):
        raise InvalidArgument("IPv4 or IPv6 must be enabled", hint="leave --ipv4=false out, or add --ipv6")
    pools = [pool for pool in request.pools if pool.version == 4 or request.ipv6]
    faults = [fault for pool in pools for fault in _address_faults(pool)]
    if faults:
        listed = faults[0] if len(faults) == 1 else "\n".join(f"* {fault}" for fault in faults)
        raise InvalidArgument(
            f"invalid network config:\n{listed}", hint="write a subnet as 172.30.0.0/24", code="bad-network-config"
        )


def _address_faults(request: PoolRequest) -> Iterator[str]:
    subnet = _network(request.subnet)
    if subnet is None:
        yield f"invalid subnet {request.subnet}: invalid CIDR block notation"
        return
    if _has_host_bits(request.subnet):
        yield f"invalid subnet {request.subnet}: it should be {subnet}"
    if request.ip_range:
        part = _network(request.ip_range)
        if part is None:
            yield f"invalid ip-range {request.ip_range}: invalid CIDR block notation"
        else:
            if _has_host_bits(request.ip_range):
                yield f"invalid ip-range {request.ip_range}: it should be {part}"
            if part.prefixlen < subnet.prefixlen:
                bigger = f"CIDR block is bigger than its parent subnet {request.subnet}"
                yield f"invalid ip-range {request.ip_range}: {bigger}"
            elif part.network_address not in subnet:
                yield f"invalid ip-range {request.ip_range}: parent subnet {request.subnet} doesn't contain ip-range"
    named = [(f"invalid gateway {request.gateway}", request.gateway)] if request.gateway else []
    named += [(f"invalid auxiliary address {name}", address) for name, address in request.aux_addresses.items()]
    for what, text in named:
        address = _address(text)
        if address is None:
            yield f"{what}: invalid address"
        elif address not in subnet:
            yield f"{what}: parent subnet {request.subnet} doesn't contain this address"


def read_options(options: Mapping[str, str], default_mtu: int, *, internal: bool = False) -> BridgeOptions:
    """Read the options of the bridge driver. Raises InvalidArgument naming the one that is wrong."""
    name = options.get(f"{BRIDGE_OPTION}name", "")
    if name and not _INTERFACE.fullmatch(name):
        reason = "numerical result out of range" if len(name) > 15 else "invalid argument"
        raise InvalidArgument(reason, hint=f"bridge name {name!r}: at most 15 letters, digits, dots and dashes")
    prefix = options.get(PREFIX_OPTION, "")
    if prefix and not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]{0,11}", prefix):
        raise InvalidArgument(f"invalid value for option {PREFIX_OPTION}: {prefix!r}", hint="at most 12 letters")
    binding = options.get(f"{BRIDGE_OPTION}host_binding_ipv4")
    if binding is not None and not isinstance(_address(binding), IPv4Address):
        raise _unreadable(f"{BRIDGE_OPTION}host_binding_ipv4", binding, "nil ip")
    for name_of_mode in (f"{BRIDGE_OPTION}gateway_mode_ipv4", f"{BRIDGE_OPTION}gateway_mode_ipv6"):
        mode = options.get(name_of_mode, "nat")
        if mode not in tuple(GatewayMode):
            raise _unreadable(name_of_mode, mode, f"unknown gateway mode {mode}")
        if mode == GatewayMode.ISOLATED and not internal:
            raise InvalidArgument(
                "gateway mode 'isolated' can only be used for an internal network",
                hint="add --internal",
                code="bad-network-option",
            )
        if mode != GatewayMode.NAT and name_of_mode.endswith("6"):
            raise Unsupported(
                f"gateway mode {mode} is not available for IPv6", hint="leave it out: published ports use NAT"
            )
    return BridgeOptions(
        bridge_name=name,
        icc=_flag(options, f"{BRIDGE_OPTION}enable_icc"),
        masquerade=_flag(options, f"{BRIDGE_OPTION}enable_ip_masquerade"),
        mtu=_mtu(options, default_mtu),
    )


def default_bridge_options(bridge: str, mtu: int) -> dict[str, str]:
    """What Docker shows for its default bridge."""
    return {
        f"{BRIDGE_OPTION}default_bridge": "true",
        f"{BRIDGE_OPTION}enable_icc": "true",
        f"{BRIDGE_OPTION}enable_ip_masquerade": "true",
        f"{BRIDGE_OPTION}host_binding_ipv4": "0.0.0.0",  # noqa: S104 - shown, nothing is bound
        f"{BRIDGE_OPTION}name": bridge,
        MTU_OPTION: str(mtu),
    }


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """The network that ``text`` lies in, host bits or not; None when it is no CIDR block."""
    try:
        if re.fullmatch(r"[\d.]+/(0|[1-9]\d?)", text, re.ASCII):
            return IPv4Network(text, strict=False)
        if re.fullmatch(r"[\da-fA-F:.]+/(0|[1-9]\d{0,2})", text, re.ASCII):
            return IPv6Network(text, strict=False)
    except ValueError:
        return None
    return None


def _has_host_bits(text: str) -> bool:
    network = _network(text)
    return network is not None and _address(text.partition("/")[0]) != network.network_address


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return IPv6Address(text) if re.fullmatch(r"[\da-fA-F:.]*:[\da-fA-F:.]*", text, re.ASCII) else IPv4Address(text)
    except ValueError:
        return None


def _unreadable(name: str, value: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"failed to parse {name} value: {value} ({reason})", code="bad-network-option")


def _flag(options: Mapping[str, str], name: str) -> bool:
    value = options.get(name, "true")
    if value not in (*_TRUE, *_FALSE):
        raise _unreadable(name, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')
    return value in _TRUE


def _mtu(options: Mapping[str, str], default: int) -> int:
    value = options.get(MTU_OPTION)
    if value is None:
        return default
    if not re.fullmatch(r"[+-]?\d{1,9}", value, re.ASCII):
        raise _unreadable(MTU_OPTION, value, f'strconv.Atoi: parsing "{value}": invalid syntax')
    number = int(value)
    if number < 0:
        raise InvalidArgument(f"invalid MTU number: {number}", code="bad-network-option")
    if number and not 68 <= number <= 65535:
        raise InvalidArgument("invalid argument", hint=f"{MTU_OPTION}={value}: 68 to 65535", code="bad-network-option")
    return number or default
