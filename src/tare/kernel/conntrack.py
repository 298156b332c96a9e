"""Connections that the kernel tracks (conntrack): finding and forgetting some of them, over netlink.

A connection keeps the translation that its first packet got, whatever the rules say later, and UDP has no end by which
the kernel would know that it is over. The messages are those of <linux/netfilter/nfnetlink_conntrack.h>.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from tare.kernel.netlink_answers import ACKNOWLEDGE, DUMP, REQUEST, answers, ask

_NETLINK_NETFILTER = 12
_GET, _DELETE = 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE
_NESTED = 0x8000
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_STATUS, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 2, 3, 12, 18, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_SRC, _CTA_IP_DST = {4: 1, 6: 3}, {4: 2, 6: 4}
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_CTA_FILTER_ORIG_FLAGS, _CTA_FILTER_REPLY_FLAGS = 1, 2
_FILTER_IP_SRC, _FILTER_PROTO_NUM = 1 << 0, 1 << 3
_IPS_DST_NAT = 1 << 5
_FAMILY = struct.Struct("=BBH")  # struct nfgenmsg
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_NAMES = {int(number): name for name, number in _PROTOCOLS.items()}

Attributes = dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Connection:
    """A tracked connection: where its first packet was sent, and who answers it.

    ``translated`` tells that its destination was replaced; ``protocol`` is tcp, udp, sctp, or a number in text.
    """

    protocol: str
    destination: str
    destination_port: int
    answering: str
    answering_port: int
    translated: bool


def forget(
    unwanted: Callable[[Connection], bool], version: int, *, protocol: str = "", answering: str = ""
) -> list[Connection]:
    """Have the kernel forget the connections that are ``unwanted``, in the calling thread's namespace; these.

    Only those of IP ``version`` 4 or 6 are looked at, and of ``protocol``, and answered from the address ``answering``
    where these are given: kernels since 5.8 choose (most) by themselves and hand over no others. Blocks for about 1 ms.
    Raises OSError, for instance without the kernel's module nf_conntrack_netlink.
    """
    forgotten = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        _ask(netlink, _GET, REQUEST | DUMP, family, _selection(version, protocol, answering))
        found = [_attributes(body[_FAMILY.size :]) for body in answers(netlink)]
        for attributes in found:
            connection = _connection(attributes)
            fits = (not protocol or connection.protocol == protocol) and answering in ("", connection.answering)
            if fits and unwanted(connection) and _delete(netlink, family, attributes):
                forgotten.append(connection)
    return forgotten


def _delete(netlink: socket.socket, family: int, attributes: Attributes) -> bool:
    """Whether it was still there."""
    named = {number: attributes[number] for number in (_CTA_ID, _CTA_ZONE) if number in attributes}
    body = _pack(_CTA_TUPLE_ORIG | _NESTED, attributes[_CTA_TUPLE_ORIG])
    body += b"".join(_pack(number, value) for number, value in named.items())
    _ask(netlink, _DELETE, REQUEST | ACKNOWLEDGE, family, body)
    try:
        list(answers(netlink))
    except FileNotFoundError:  # it has ended meanwhile
        return False
    return True


def _selection(version: int, protocol: str, answering: str) -> bytes:
    """The attributes by which the kernel chooses; none for all.

    Not by an address of IPv6: there kernels hand over what does not match (6.18's ctnetlink_filter_match_tuple).
    """
    body, flags = b"", {_CTA_FILTER_ORIG_FLAGS: 0, _CTA_FILTER_REPLY_FLAGS: 0}
    if protocol:
        number = _pack(_CTA_PROTO_NUM, bytes([_PROTOCOLS[protocol]]))
        body += _pack(_CTA_TUPLE_ORIG | _NESTED, _pack(_CTA_TUPLE_PROTO | _NESTED, number))
        flags[_CTA_FILTER_ORIG_FLAGS] = _FILTER_PROTO_NUM
    if answering and version == 4:
        source = _pack(_CTA_IP_SRC[version], ip_address(answering).packed)
        body += _pack(_CTA_TUPLE_REPLY | _NESTED, _pack(_CTA_TUPLE_IP | _NESTED, source))
        flags[_CTA_FILTER_REPLY_FLAGS] = _FILTER_IP_SRC
    if not body:
        return b""
    chosen = b"".join(_pack(number, struct.pack("=I", value)) for number, value in flags.items())
    return body + _pack(_CTA_FILTER | _NESTED, chosen)


def _connection(attributes: Attributes) -> Connection:
    sent, answered = _attributes(attributes[_CTA_TUPLE_ORIG]), _attributes(attributes[_CTA_TUPLE_REPLY])
    addresses, answers = _attributes(sent[_CTA_TUPLE_IP]), _attributes(answered[_CTA_TUPLE_IP])
    ports, answering = _attributes(sent[_CTA_TUPLE_PROTO]), _attributes(answered[_CTA_TUPLE_PROTO])
    version = 4 if _CTA_IP_SRC[4] in addresses else 6
    number = ports[_CTA_PROTO_NUM][0]
    return Connection(
        protocol=_NAMES.get(number, str(number)),
        destination=str(ip_address(addresses[_CTA_IP_DST[version]])),
        destination_port=int.from_bytes(ports.get(_CTA_PROTO_DST_PORT, b""), "big"),
        answering=str(ip_address(answers[_CTA_IP_SRC[version]])),
        answering_port=int.from_bytes(answering.get(_CTA_PROTO_SRC_PORT, b""), "big"),
        translated=bool(int.from_bytes(attributes.get(_CTA_STATUS, b""), "big") & _IPS_DST_NAT),
    )


def _ask(netlink: socket.socket, kind: int, flags: int, family: int, body: bytes) -> None:
    ask(netlink, kind, flags, _FAMILY.pack(family, 0, 0) + body)


def _attributes(data: bytes) -> Attributes:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            raise OSError(errno.EBADMSG, "netlink: an attribute without a length")
        found[kind & 0x3FFF] = data[_ATTRIBUTE.size : size]
        data = data[(size + 3) & ~3 :]
    return found


def _pack(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)
