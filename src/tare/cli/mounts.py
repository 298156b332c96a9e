"""``-v``, ``--mount``, ``--tmpfs`` and ``-p`` options as the API's documents."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tare.cli.units import parse_size
from tare.errors import InvalidArgument

_TRUE = {"true": True, "1": True, "false": False, "0": False}
_PORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|\d+\.\d+\.\d+\.\d+):)?(?:(?P<host>[0-9-]*):)?(?P<port>[0-9-]+)(?:/(?P<kind>\w+))?"
)
PortBindings = dict[str, list[dict[str, str]]]


def read_ports(texts: Iterable[str]) -> PortBindings:
    """``[[ip:]hostPort:]containerPort[/protocol]``, ranges allowed, as PortBindings. Raises InvalidArgument."""
    bindings: PortBindings = {}
    for text in texts:
        match = _PORT.fullmatch(text)
        if match is None or (match["ip"] and match["host"] is None):
            raise InvalidArgument(
                f"invalid publish specification: {text!r}", hint="use [[ip:]hostPort:]containerPort[/protocol]"
            )
        protocol = (match["kind"] or "tcp").lower()
        if protocol not in ("tcp", "udp", "sctp"):
            raise InvalidArgument(f"invalid proto: {match['kind']} in {text!r}", hint="use tcp or udp")
        inside = _port_range(match["port"], text)
        outside = _port_range(match["host"], text) if match["host"] else []
        if outside and len(outside) != len(inside) and len(inside) > 1:
            raise InvalidArgument(f"invalid ranges specified for container and host ports: {text!r}")
        for index, number in enumerate(inside):
            host = ""
            if len(outside) == len(inside):
                host = str(outside[index])
            elif outside:
                host = f"{outside[0]}-{outside[-1]}"
            place = {"HostIp": (match["ip"] or "").strip("[]"), "HostPort": host}
            bindings.setdefault(f"{number}/{protocol}", []).append(place)
    return bindings


def _port_range(text: str, whole: str) -> list[int]:
    first, dash, last = text.partition("-")
    try:
        numbers = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        numbers = range(0)
    if not numbers or numbers[0] < 1 or numbers[-1] > 65535:
        raise InvalidArgument(f"invalid port range {text!r} in {whole!r}", hint="ports are 1 to 65535")
    return list(numbers)


def read_exposed(texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """``--expose`` options as ExposedPorts."""
    exposed: dict[str, dict[str, str]] = {}
    for text in texts:
        numbers, _, protocol = text.partition("/")
        first = numbers.partition("-")[0]
        if not first.isdecimal():
            raise InvalidArgument(
                f"invalid range format for --expose: {text}, error: "
                f'strconv.ParseUint: parsing "{first}": invalid syntax'
            )
        exposed |= {f"{number}/{protocol or 'tcp'}": {} for number in _port_range(numbers, text)}
    return exposed


def read_volumes(texts: Iterable[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """``-v`` options as Binds and anonymous Volumes; relative source paths become absolute. Raises InvalidArgument."""
    binds: list[str] = []
    anonymous: dict[str, dict[str, str]] = {}
    for text in texts:
        parts = text.split(":")
        if len(parts) > 3 or not all(parts):
            raise InvalidArgument(f"invalid volume specification: '{text}'", hint="use [source:]target[:options]")
        target = parts[0] if len(parts) == 1 else parts[1]
        if not target.startswith("/"):
            raise InvalidArgument(
                f"invalid volume specification: '{text}': invalid mount config for type \"volume\": "
                f"invalid mount path: '{target}' mount path must be absolute"
            )
        if len(parts) == 1:
            anonymous[text] = {}
            continue
        if parts[0].startswith((".", "~")):
            parts[0] = str(Path(parts[0]).expanduser().absolute())
        binds.append(":".join(parts))
    return binds, anonymous


def read_tmpfs(texts: Iterable[str]) -> dict[str, str]:
    """``--tmpfs PATH[:OPTIONS]``."""
    return {path: options for path, _, options in (text.partition(":") for text in texts)}


def read_mount(text: str) -> dict[str, Any]:
    """``--mount type=…,source=…,target=…`` as the API's Mount. Raises InvalidArgument."""
    mount: dict[str, Any] = {"Type": "volume"}
    for item in next(csv.reader([text]), []):
        name, equals, value = item.partition("=")
        _set_mount(mount, name.strip().lower(), value, given=bool(equals), whole=text)
    if not mount.get("Target"):
        raise InvalidArgument(f'invalid argument "{text}" for "--mount": target is required')
    if mount["Type"] == "bind" and not mount.get("Source"):
        raise InvalidArgument(f'invalid argument "{text}" for "--mount": source is required for bind mounts')
    if str(mount.get("Source", "")).startswith("."):
        mount["Source"] = str(Path(mount["Source"]).absolute())
    return mount


def _set_mount(mount: dict[str, Any], name: str, value: str, *, given: bool, whole: str) -> None:
    options = {"bind": "BindOptions", "tmpfs": "TmpfsOptions"}
    match name:
        case "type" if value.lower() in ("bind", "volume", "tmpfs"):
            mount["Type"] = value.lower()
        case "source" | "src":
            mount["Source"] = value
        case "target" | "dst" | "destination":
            mount["Target"] = value
        case "readonly" | "ro":
            mount["ReadOnly"] = _boolean(value, whole) if given else True
        case "volume-nocopy":
            mount.setdefault("VolumeOptions", {})["NoCopy"] = _boolean(value, whole) if given else True
        case "volume-label":
            key, _, label = value.partition("=")
            mount.setdefault("VolumeOptions", {}).setdefault("Labels", {})[key] = label
        case "volume-subpath":
            mount.setdefault("VolumeOptions", {})["Subpath"] = value
        case "bind-propagation":
            mount.setdefault(options["bind"], {})["Propagation"] = value
        case "tmpfs-size":
            mount.setdefault(options["tmpfs"], {})["SizeBytes"] = parse_size(value, "--mount tmpfs-size")
        case "tmpfs-mode" if re.fullmatch(r"[0-7]{1,4}", value):
            mount.setdefault(options["tmpfs"], {})["Mode"] = int(value, 8)
        case _:
            raise InvalidArgument(f'invalid argument "{whole}" for "--mount": unexpected {name}={value}')


def _boolean(value: str, whole: str) -> bool:
    if value.lower() not in _TRUE:
        raise InvalidArgument(f'invalid argument "{whole}" for "--mount": {value!r} is not true or false')
    return _TRUE[value.lower()]
