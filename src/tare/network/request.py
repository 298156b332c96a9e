"""What is asked of a new network, checked by Docker's rules and in its words. Pure.

The words are those of Docker 28.5 (``ValidateIPAM`` and the labels of its bridge driver); what Tare refuses beyond
them is said where it is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network

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


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRequest:
    """What is asked of a new network; addresses as CIDR or dotted text, None where the engine may choose."""

    name: str
    driver: str = "bridge"
    subnet: str | None = None
    gateway: str | None = None
    ip_range: str | None = None
    aux_addresses: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    attachable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_no_gateway(self) -> bool:
        """Whether none has an address on it but its containers: an internal macvlan, and the gateway mode isolated."""
        isolated = self.options.get(f"{BRIDGE_OPTION}gateway_mode_ipv4") == GatewayMode.ISOLATED
        return self.internal and (self.driver == Driver.MACVLAN or isolated)


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
        raise Unsupported("ipv4 pool is empty", hint="a network needs addresses: use the IPAM driver default")
    if request.ipam_driver not in ("", "default"):
        raise NotFound(f'plugin "{request.ipam_driver}" not found', hint="the IPAM driver is default")


def check_addresses(request: NetworkRequest) -> None:
    """Check subnet, range, gateway and auxiliary addresses against each other. Raises InvalidArgument with all faults.

    Source: Docker's ``network.ValidateIPAM``.
    """
    if not (request.subnet or request.gateway or request.ip_range or request.aux_addresses):
        return
    faults = list(_address_faults(request))
    if faults:
        listed = faults[0] if len(faults) == 1 else "\n".join(f"* {fault}" for fault in faults)
        raise InvalidArgument(
            f"invalid network config:\n{listed}", hint="write a subnet as 172.30.0.0/24", code="bad-network-config"
        )


def _address_faults(request: NetworkRequest) -> Iterator[str]:
    subnet = _network(request.subnet or "")
    if subnet is None:
        yield f"invalid subnet {request.subnet or ''}: invalid CIDR block notation"
        return
    if _masked(request.subnet or "") != request.subnet:
        yield f"invalid subnet {request.subnet}: it should be {subnet}"
    if request.ip_range:
        part = _network(request.ip_range)
        if part is None:
            yield f"invalid ip-range {request.ip_range}: invalid CIDR block notation"
        else:
            if _masked(request.ip_range) != request.ip_range:
                yield f"invalid ip-range {request.ip_range}: it should be {part}"
            if part.prefixlen < subnet.prefixlen:
                bigger = f"CIDR block is bigger than its parent subnet {request.subnet}"
                yield f"invalid ip-range {request.ip_range}: {bigger}"
            elif not part.subnet_of(subnet):
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
    if binding is not None and _address(binding) is None:
        raise _unreadable(f"{BRIDGE_OPTION}host_binding_ipv4", binding, "nil ip")
    mode = options.get(f"{BRIDGE_OPTION}gateway_mode_ipv4", "nat")
    if mode not in tuple(GatewayMode):
        raise _unreadable(f"{BRIDGE_OPTION}gateway_mode_ipv4", mode, f"unknown gateway mode {mode}")
    if mode == GatewayMode.ISOLATED and not internal:
        raise InvalidArgument(
            "gateway mode 'isolated' can only be used for an internal network",
            hint="add --internal",
            code="bad-network-option",
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


def _network(text: str) -> IPv4Network | None:
    """The network that ``text`` lies in, host bits or not; None when it is no CIDR block."""
    if not re.fullmatch(r"[\d.]+/\d{1,2}", text, re.ASCII):
        return None
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        return None


def _masked(text: str) -> str:
    return str(_network(text))


def _address(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except AddressValueError:
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
