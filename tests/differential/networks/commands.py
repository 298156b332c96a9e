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

DIFFERENCES: dict[str, str] = {}
"""Commands that Tare answers otherwise on purpose, and why."""

COMMANDS = [
    line
    for line in Path(__file__).with_name("commands.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def expanded(line: str) -> str:
    """The command with its short forms written out."""
    for short, long in SHORT_FORMS.items():
        line = line.replace(short, long)
    return line
