"""The docker commands about networks that are compared (``commands.txt``), and what its short forms stand for.

``<start>`` alone on a line notes the time; elsewhere it is that time, and ``<now>`` the time when the command runs.
"""

from __future__ import annotations

from pathlib import Path

_ADDRESSES = (
    "'{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}}/{{$e.IPPrefixLen}} {{$e.Gateway}} "
    "{{$e.MacAddress}} {{json $e.Aliases}} {{json $e.IPAMConfig}} {{json $e.DriverOpts}} {{$e.GwPriority}}{{println}}"
    "{{end}}'"
)
_CREATED = "{{json .IPAM}} {{.Internal}} {{.Attachable}} {{json .Options}} {{json .Labels}} {{.EnableIPv6}}"
SHORT_FORMS = {
    "<run>": "run -d --label netcli",
    "<make>": "create --label netcli",
    "<end>": "differential/busybox:1 sleep 1000",
    "'<addresses>'": _ADDRESSES,
    "<created>": _CREATED,
}

_TEMPLATES = "configuration networks are templates for the nodes of a swarm"
_ROOM = "a network without room for a gateway and a container is of no use"
_SCOPE = "there is one host, so every network is local"
_NAMES = "a name that no later command could use is refused"
_IPV4 = "Tare publishes ports on IPv4"

_DIFFERENCES = {
    _TEMPLATES: (
        "network create --config-only --subnet 10.231.30.0/24 --label netcli netcli-config",
        "network inspect -f '<created> {{.ConfigOnly}} {{.ConfigFrom}}' netcli-config",
        "network create --config-from netcli-config netcli-from",
        "network inspect -f '<created> {{.ConfigOnly}} {{.ConfigFrom}}' netcli-from",
        "network create --config-from netcli-config --subnet 10.231.31.0/24 netcli-x",
        "network create --config-from nope netcli-x",
        "network rm netcli-config",
        "network rm netcli-from",
        "network rm netcli-config # again",
        "network create --ingress netcli-x",
    ),
    _ROOM: (
        "network create --subnet 10.231.20.0/31 netcli-x",
        "network rm netcli-x # 31",
        "network create --subnet 10.231.20.0/32 netcli-x",
        "network rm netcli-x # 32",
    ),
    _SCOPE: (
        "network create --scope nonsense netcli-x",
        "network rm netcli-x # nonsense",
        "network create --scope global netcli-x",
        "network rm netcli-x # global",
        "network create --scope swarm netcli-x",
    ),
    _NAMES: (
        "network create container:x",
        "network rm container:x",
        'network create "bad name"',
        'network rm "bad name"',
        "network create -- -bad",
        "network rm -- -bad",
    ),
    _IPV4: (
        "ps --filter name=netcli-all --format {{.Ports}}",
        "port netcli-all",
    ),
    "Tare names the network that is asked for, not the id that it would have had": (
        "network create -o com.docker.network.bridge.name=netcli0 --subnet 10.231.20.0/24 netcli-x",
    ),
    "Tare looks networks up when the container is made": ("run --rm --network nope differential/busybox:1 true",),
}
DIFFERENCES = {line: reason for reason, lines in _DIFFERENCES.items() for line in lines}
"""Commands that Tare answers otherwise on purpose, and why. What follows a ``#`` tells equal lines apart."""

COMMANDS = [
    line
    for line in Path(__file__).with_name("commands.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def expanded(line: str) -> str:
    """The command with its short forms written out."""
    for short, long in SHORT_FORMS.items():
        line = line.replace(short, long)
    return line.partition(" # ")[0]
