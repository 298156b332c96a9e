"""Options of ``run`` that become whole documents: log drivers, security options, addresses, GPUs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tare.cli.flags import flag_error
from tare.errors import InvalidArgument

_DOMAIN = re.compile(r"\.?(?:[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+")


def read_log(driver: str, options: Iterable[str]) -> dict[str, Any]:
    """``--log-driver`` and ``--log-opt`` as the API's LogConfig. Raises InvalidArgument."""
    config = {key: value for key, _, value in (text.partition("=") for text in options)}
    if driver == "none" and config:
        raise InvalidArgument("invalid logging opts for driver none")
    return {"Type": driver, "Config": config}


def read_security(texts: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """``--security-opt`` options as the API takes them (profiles are read here), and HostConfig members they set.

    Raises InvalidArgument in Docker's words for an option without value and for a profile that cannot be read.
    """
    options: list[str] = []
    members: dict[str, list[str]] = {}
    for text in texts:
        separator = "=" if "=" in text else ":"
        name, found, value = text.partition(separator)
        if name != "no-new-privileges" and not (found and value):
            raise InvalidArgument(f'Invalid --security-opt: "{text}"')
        if text == "systempaths=unconfined":
            members = {"MaskedPaths": [], "ReadonlyPaths": []}
        elif name == "seccomp" and value not in ("unconfined", "builtin"):
            options.append(f"seccomp={_profile(value)}")
        else:
            options.append(text)
    return options, members


def _profile(path: str) -> str:
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidArgument(f"opening seccomp profile ({path}) failed: open {path}: {why}") from error
    try:
        return json.dumps(json.loads(text), separators=(",", ":"))
    except json.JSONDecodeError as error:
        raise InvalidArgument(
            f"compacting json for seccomp profile ({path}) failed: invalid character in line {error.lineno}"
        ) from error


def read_extra_hosts(texts: Iterable[str]) -> list[str]:
    """``--add-host NAME:ADDRESS`` or ``NAME=ADDRESS``. Raises InvalidArgument."""
    hosts = []
    for text in texts:
        separator = "=" if "=" in text else ":"
        name, found, address = text.partition(separator)
        if not found or not name:
            raise flag_error(text, "--add-host", f'bad format for add-host: "{text}"')
        address = address.removeprefix("[").removesuffix("]")
        if address != "host-gateway" and not _is_address(address):
            raise flag_error(text, "--add-host", f'invalid IP address in add-host: "{address}"')
        hosts.append(f"{name}:{address}")
    return hosts


def read_links(texts: Iterable[str]) -> list[str]:
    """``--link NAME[:ALIAS]``. Raises InvalidArgument."""
    for text in texts:
        if not text or text.count(":") > 1:
            raise flag_error(text, "--link", f"bad format for links: {text}")
    return list(texts)


def read_dns(texts: Iterable[str], flag: str = "--dns") -> list[str]:
    """``--dns`` addresses. Raises InvalidArgument."""
    for text in texts:
        if not _is_address(text.strip()):
            raise flag_error(text, flag, f"IP address is not correctly formatted: {text}")
    return [text.strip() for text in texts]


def read_dns_search(texts: Iterable[str]) -> list[str]:
    """``--dns-search`` domains; ``.`` is none at all. Raises InvalidArgument."""
    for text in texts:
        if text.strip() != "." and (len(text) > 255 or _DOMAIN.fullmatch(text.strip()) is None):
            raise flag_error(text, "--dns-search", f"{text} is not a valid domain")
    return [text.strip() for text in texts]


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def read_gpus(text: str) -> list[dict[str, Any]] | None:
    """``--gpus all``, a number or ``device=…,capabilities=…`` as the API's DeviceRequests. Raises InvalidArgument."""
    if not text:
        return None
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [], "Options": {}}
    capabilities = ["gpu"]
    try:
        fields = next(csv.reader([text]), [])
    except csv.Error as error:
        raise flag_error(text, "--gpus", str(error)) from error
    for field in fields:
        key, equals, value = field.partition("=")
        match key:
            case "driver":
                request["Driver"] = value
            case "device":
                request["DeviceIDs"] = value.split(",")
            case "capabilities":
                capabilities += value.split(",")
            case "count" | "all" | _ if key in ("count", "all") or not equals:
                number = value if equals else key
                if number != "all" and not number.isdecimal():
                    raise flag_error(
                        text, "--gpus", f'invalid count ({number}): value must be either "all" or an integer'
                    )
                request["Count"] = -1 if number == "all" else int(number)
            case _:
                raise flag_error(text, "--gpus", f"unexpected key '{key}' in '{field}'")
    if request["Count"] == 0 and request["DeviceIDs"] is None:
        request["Count"] = 1
    request["Capabilities"] = [capabilities]
    return [request]
