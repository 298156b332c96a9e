"""``-v``, ``--mount``, ``--tmpfs`` and ``-p`` options as the API's documents."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tare.cli.units import parse_size
from tare.errors import InvalidArgument

_TRUE = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_FLAGS = frozenset({"readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src", "idmap"})
_RECURSION = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}
_PORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|\d+\.\d+\.\d+\.\d+):)?(?:(?P<host>[0-9-]*):)?(?P<port>[0-9-]+)(?:/(?P<kind>\w+))?"
)
PortBindings = dict[str, list[dict[str, Any]]]


def read_ports(texts: Iterable[str]) -> PortBindings:
    """``[[ip:]hostPort:]containerPort[/protocol][,from=CIDR]…``, ranges allowed, as PortBindings.

    Raises InvalidArgument.
    """
    bindings: PortBindings = {}
    for whole in texts:
        text, *options = whole.split(",")
        sources = [option.removeprefix("from=") for option in options]
        if not all(option.startswith("from=") and option != "from=" for option in options):
            raise InvalidArgument(
                f"invalid publish specification: {whole!r}",
                hint="after the ports only from=CIDR, such as from=10.0.0.0/8",
            )
        match = _PORT.fullmatch(text)
        if match is None or (match["ip"] and match["host"] is None):
            raise InvalidArgument(
                f"invalid publish specification: {text!r}", hint="use [[ip:]hostPort:]containerPort[/protocol]"
            )
        protocol = (match["kind"] or "tcp").lower()
        if protocol not in ("tcp", "udp", "sctp"):
            raise InvalidArgument(f"invalid proto: {match['kind']} in {text!r}", hint="use tcp, udp or sctp")
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
            place: dict[str, Any] = {"HostIp": (match["ip"] or "").strip("[]"), "HostPort": host}
            if sources:
                place["From"] = sources
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
    return list(dict.fromkeys(binds)), anonymous


def read_tmpfs(texts: Iterable[str]) -> dict[str, str]:
    """``--tmpfs PATH[:OPTIONS]``."""
    return {path: options for path, _, options in (text.partition(":") for text in texts)}


def read_mount(text: str) -> dict[str, Any]:
    """``--mount type=…,source=…,target=…`` as the API's Mount. Raises InvalidArgument in Docker's words."""
    mount: dict[str, Any] = {"Type": "volume"}
    about = f'invalid argument "{text}" for "--mount" flag: '
    idmap = None
    for item in next(csv.reader([text]), []):
        key, equals, value = item.partition("=")
        name = key.strip().lower()
        if not equals and name not in _FLAGS:
            raise InvalidArgument(f"{about}invalid field '{item}' must be a key=value pair")
        if name == "idmap":
            idmap = value
            continue
        try:
            _set_mount(mount, name, value, given=bool(equals), item=item)
        except InvalidArgument as error:
            raise InvalidArgument(f"{about}{error.message}", hint=error.hint) from error
    if not mount.get("Target"):
        raise InvalidArgument(f"{about}target is required")
    if idmap is not None:
        _set_idmap(mount, idmap, about)
    _check_mount(mount, about)
    if str(mount.get("Source", "")).startswith(".") and mount["Type"] == "bind":
        mount["Source"] = str(Path(mount["Source"]).absolute())
    return mount


def _set_idmap(mount: dict[str, Any], idmap: str, about: str) -> None:
    if mount["Type"] not in ("bind", "volume"):
        raise InvalidArgument(f"{about}cannot mix 'idmap' with mount type '{mount['Type']}'")
    mount.setdefault("BindOptions" if mount["Type"] == "bind" else "VolumeOptions", {})["IDMap"] = idmap


def _check_mount(mount: dict[str, Any], about: str) -> None:
    kind = mount["Type"]
    for other in ("volume", "bind", "tmpfs", "image"):
        if kind != other and f"{other.capitalize()}Options" in mount:
            raise InvalidArgument(f"{about}cannot mix '{other}-*' options with mount type '{kind}'")
    bind = mount.get("BindOptions", {})
    for member, word in (("ReadOnlyNonRecursive", "writable"), ("ReadOnlyForceRecursive", "readonly")):
        if bind.get(member) and not mount.get("ReadOnly"):
            raise InvalidArgument(
                f"{about}option 'bind-recursive={word}' requires 'readonly' to be specified in conjunction"
            )
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        option = "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate'"
        raise InvalidArgument(f"{about}{option} to be specified in conjunction")


def _set_mount(mount: dict[str, Any], name: str, value: str, *, given: bool, item: str) -> None:
    match name:
        case "type":
            mount["Type"] = value.lower()
        case "source" | "src":
            mount["Source"] = value
        case "target" | "dst" | "destination":
            mount["Target"] = value
        case "readonly" | "ro":
            mount["ReadOnly"] = _boolean(name, value) if given else True
        case "uid" | "gid" | "mode":
            driver = mount.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})
            driver.setdefault("Options", {})[name] = value
        case "image-subpath":
            mount.setdefault("ImageOptions", {})["Subpath"] = value
        case _ if name.startswith("bind-"):
            _set_bind(mount.setdefault("BindOptions", {}), name, value, given=given, item=item)
        case _ if name.startswith("volume-"):
            _set_volume(mount.setdefault("VolumeOptions", {}), name, value, given=given, item=item)
        case _ if name.startswith("tmpfs-"):
            _set_tmpfs(mount.setdefault("TmpfsOptions", {}), name, value, item=item)
        case _:
            raise InvalidArgument(f"unexpected key '{name}' in '{item}'")


def _set_bind(options: dict[str, Any], name: str, value: str, *, given: bool, item: str) -> None:
    match name:
        case "bind-propagation":
            options["Propagation"] = value.lower()
        case "bind-nonrecursive":
            options["NonRecursive"] = _boolean(name, value) if given else True
        case "bind-create-src":
            options["CreateMountpoint"] = _boolean(name, value) if given else True
        case "bind-recursive" if value == "enabled":
            return
        case "bind-recursive" if value in _RECURSION:
            options[_RECURSION[value]] = True
        case "bind-recursive":
            choice = '(must be "enabled", "disabled", "writable", or "readonly")'
            raise InvalidArgument(f"invalid value for {name}: {value} {choice}")
        case _:
            raise InvalidArgument(f"unexpected key '{name}' in '{item}'")


def _set_volume(options: dict[str, Any], name: str, value: str, *, given: bool, item: str) -> None:
    key, _, text = value.partition("=")
    match name:
        case "volume-nocopy":
            options["NoCopy"] = _boolean(name, value) if given else True
        case "volume-label":
            options.setdefault("Labels", {})[key] = text
        case "volume-subpath":
            options["Subpath"] = value
        case "volume-driver":
            options.setdefault("DriverConfig", {})["Name"] = value
        case "volume-opt":
            options.setdefault("DriverConfig", {}).setdefault("Options", {})[key] = text
        case _:
            raise InvalidArgument(f"unexpected key '{name}' in '{item}'")


def _set_tmpfs(options: dict[str, Any], name: str, value: str, *, item: str) -> None:
    match name:
        case "tmpfs-size":
            try:
                options["SizeBytes"] = parse_size(value, name)
            except InvalidArgument as error:
                raise InvalidArgument(f"invalid value for {name}: {value}") from error
        case "tmpfs-mode" if re.fullmatch(r"[0-7]{1,5}", value):
            options["Mode"] = int(value, 8)
        case "tmpfs-mode":
            raise InvalidArgument(f"invalid value for {name}: {value}")
        case "tmpfs-options":
            options["Options"] = [word.split("=", 1) for word in re.split(r"[,;]", value) if word]
        case _:
            raise InvalidArgument(f"unexpected key '{name}' in '{item}'")


def _boolean(name: str, value: str) -> bool:
    if value.lower() not in _TRUE:
        raise InvalidArgument(f"invalid value for {name}: {value}")
    return _TRUE[value.lower()]
