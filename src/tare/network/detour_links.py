"""The way that first packets take which the host's own input policy has let in: a veth pair, and its routing rules.

What is sent out at one end comes in at the other, as a new packet whose source is somewhere else. Filters of reverse
paths (``rp_filter`` of ip-sysctl, and nftables' ``fib saddr . mark . iif``) would drop it: the way to its source is
another interface's. So the ruleset gives these packets a mark of the engine's own, and a rule sends
the *question about the source* to a table that knows no other interface. The way to the destination is asked with the
incoming interface (the question about the source is not), and goes by the main table, as ever.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tare.network import netlink

_MAIN = 254  # RT_TABLE_MAIN of rtnetlink(7)
_DESTINATION, _SOURCE = 10, 11
"""Priorities of the two rules: after the local table's (0), before everybody's."""
_PERMANENT = 0x80  # NUD_PERMANENT of neighbour.h
_MTU = 65535
_CONF = Path("/proc/sys/net")


async def ensure(out: str, back: str, neighbours: Sequence[str], mark: int) -> None:
    """Make a veth pair on which whatever is sent to the ``neighbours`` by ``out`` comes back by ``back``; what exists
    is completed.

    Packets that come back may have any source, once they have the ``mark``, which names the routing table as well.
    """
    await netlink.perform(out, lambda ip: _ensure(ip, out, back, neighbours, mark))


async def remove(out: str, back: str, mark: int) -> None:
    """Remove the pair and its rules; absence is no error."""
    await netlink.perform(out, lambda ip: _remove_rules(ip, back, mark))
    await netlink.remove_link(out)


def _ensure(ip: Any, out: str, back: str, neighbours: Sequence[str], mark: int) -> None:
    if netlink.index_of(ip, out) is None:
        ip.link("add", ifname=out, kind="veth", peer={"ifname": back}, mtu=_MTU)
    indexes = {name: netlink.index_of(ip, name) for name in (out, back)}
    for index in indexes.values():
        ip.link("set", index=index, state="up", mtu=_MTU)
    (_CONF / "ipv4/conf" / back / "src_valid_mark").write_text("1")  # questions about the source know the mark
    hardware = ip.get_links(indexes[back])[0].get_attr("IFLA_ADDRESS")
    families = list(_families(back))
    for address in neighbours:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        if family in families:
            ip.neigh("replace", dst=address, lladdr=hardware, ifindex=indexes[out], state=_PERMANENT, family=family)
        if family == socket.AF_INET:  # link-local addresses of IPv6 have their route; engines differ in the metric
            ip.route("replace", dst=f"{address}/32", oif=indexes[out], priority=indexes[out], scope="link")
    for version in families:
        everything = "::/0" if version == socket.AF_INET6 else "0.0.0.0/0"
        ip.route("replace", dst=everything, oif=indexes[back], table=mark, scope="link", family=version)
        there = {priority for priority, _ in _rules(ip, version, back, mark)}
        if _DESTINATION not in there:
            ip.rule("add", priority=_DESTINATION, iifname=back, table=_MAIN, family=version)
        if _SOURCE not in there:
            ip.rule("add", priority=_SOURCE, fwmark=mark, table=mark, family=version)


def _remove_rules(ip: Any, back: str, mark: int) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        for priority, match in list(_rules(ip, family, back, mark)):
            ip.rule("del", priority=priority, family=family, **match)


def _rules(ip: Any, family: int, back: str, mark: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The priorities of our rules that there are, and what they match."""
    for rule in ip.get_rules(family=family):
        priority = rule.get_attr("FRA_PRIORITY")
        if priority == _DESTINATION and rule.get_attr("FRA_IIFNAME") == back:
            yield priority, {"iifname": back, "table": _MAIN}
        elif priority == _SOURCE and rule.get_attr("FRA_FWMARK") == mark:
            yield priority, {"fwmark": mark, "table": mark}


def _families(interface: str) -> Iterator[int]:
    yield socket.AF_INET
    disabled = _CONF / "ipv6/conf" / interface / "disable_ipv6"
    if disabled.exists() and disabled.read_text().strip() == "0":
        yield socket.AF_INET6
