"""The wires of the lab: four network namespaces, joined by veth pairs.

::

    wan ───── router ──┬── host         where the engine runs
                       └── neighbour    in the same LAN

The neighbour is hostile: it routes 127.0.0.0/8 and every container subnet to the host. The router knows the way to the
container subnets too, as a company's may, so that the WAN client gets as far as the host's own rules.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tare.kernel.namespaces import create_network_namespace, remove_network_namespace, run_in_network_namespace

# Addresses for documentation (RFC 5737, RFC 3849): nothing that this machine routes.
HOST, HOST6 = "192.0.2.10", "2001:db8:1::10"
NEIGHBOUR, NEIGHBOUR6 = "192.0.2.20", "2001:db8:1::20"
ROUTER, ROUTER6 = "192.0.2.1", "2001:db8:1::1"
WAN, WAN6 = "198.51.100.30", "2001:db8:2::30"
WAN_GATEWAY, WAN_GATEWAY6 = "198.51.100.1", "2001:db8:2::1"
CONTAINERS, CONTAINERS6 = "10.201.0.0/16", "fd00:db8::/32"
"""Where all subnets of the lab's networks lie, the default bridge's as well."""

PLACES = ("host", "neighbour", "router", "wan")

_ROUTER = f"""
link add lan0 type bridge
addr add {ROUTER}/24 dev lan0
addr add {ROUTER6}/64 dev lan0 nodad
link set lan0 up
link add to-host type veth peer name lan0 netns {{host}}
link set to-host master lan0 up
link add to-neighbour type veth peer name lan0 netns {{neighbour}}
link set to-neighbour master lan0 up
link add wan0 type veth peer name wan0 netns {{wan}}
addr add {WAN_GATEWAY}/24 dev wan0
addr add {WAN_GATEWAY6}/64 dev wan0 nodad
link set wan0 up
route add {CONTAINERS} via {HOST}
route add {CONTAINERS6} via {HOST6}
"""
_HOST = f"""
addr add {HOST}/24 dev lan0
addr add {HOST6}/64 dev lan0 nodad
link set lan0 up
route add default via {ROUTER}
route add default via {ROUTER6}
"""
_NEIGHBOUR = f"""
addr add {NEIGHBOUR}/24 dev lan0
addr add {NEIGHBOUR6}/64 dev lan0 nodad
link set lan0 up
route add default via {ROUTER}
route add default via {ROUTER6}
route add {CONTAINERS} via {HOST}
route add {CONTAINERS6} via {HOST6}
addr del 127.0.0.1/8 dev lo
route add 127.0.0.0/8 via {HOST} dev lan0 src {NEIGHBOUR}
"""
_WAN = f"""
addr add {WAN}/24 dev wan0
addr add {WAN6}/64 dev wan0 nodad
link set wan0 up
route add default via {WAN_GATEWAY}
route add default via {WAN_GATEWAY6}
"""


@dataclass(frozen=True)
class Topology:
    """The namespaces by name, each kept by a file (see ``tare.kernel.namespaces``)."""

    namespaces: Mapping[str, Path]

    @property
    def host(self) -> Path:
        """The namespace in which the engine runs."""
        return self.namespaces["host"]


@contextlib.contextmanager
def built() -> Iterator[Topology]:
    """The lab's wires, gone after the block whatever happens in it."""
    directory = Path(tempfile.mkdtemp(prefix="tare-lab"))
    topology = Topology({name: directory / "netns" / name for name in PLACES})
    try:
        for path in topology.namespaces.values():
            create_network_namespace(path)
            run_in_network_namespace(path, prepare)
        configure(topology.namespaces["router"], _ROUTER.format(**topology.namespaces))
        configure(topology.host, _HOST)
        configure(topology.namespaces["neighbour"], _NEIGHBOUR)
        configure(topology.namespaces["wan"], _WAN)
        run_in_network_namespace(topology.namespaces["router"], _forward)
        yield topology
    finally:
        for path in topology.namespaces.values():
            remove_network_namespace(path)
        shutil.rmtree(directory)


def configure(namespace: Path, commands: str) -> None:
    """Run commands of ip(8) in a namespace; an address of IPv6 is recognised by its colons."""
    for family, lines in (("-4", _lines(commands, six=False)), ("-6", _lines(commands, six=True))):
        subprocess.run(
            ["nsenter", f"--net={namespace}", "ip", family, "-batch", "-"],
            input="\n".join(lines), text=True, check=True, capture_output=True,
        )  # fmt: skip


def _lines(commands: str, *, six: bool) -> list[str]:
    words = [line for line in commands.splitlines() if line]
    return [line for line in words if ("::" in line) is six]


def prepare() -> None:
    """In the calling thread's namespace: addresses of IPv6 at once, an ICMP error for every packet that earns one."""
    for scope in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad").write_text("0")
    Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0")
    Path("/proc/sys/net/ipv6/icmp/ratelimit").write_text("0")


def _forward() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
