"""The words that Docker writes into an image's history, and step names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tare.oci.image import Healthcheck

COMMENT = "buildkit.dockerfile.v0"
"""What tools look for in a history entry to know how to read it."""


def one_line(text: str) -> str:
    """An instruction on one line."""
    return " ".join(text.split())


def quoted(argv: Iterable[str]) -> str:
    """Go's ``%q`` of a list of strings."""
    return "[" + " ".join(json.dumps(item, ensure_ascii=False) for item in argv) + "]"


def run_command(argv: Sequence[str], arguments: Mapping[str, str]) -> str:
    """A RUN step's command; declared ARGs go in front as ``|count name=value …``."""
    shown = [f"{name}={value}" for name, value in arguments.items()]
    return " ".join([*([f"|{len(shown)}", *shown] if shown else []), *argv])


def healthcheck(check: Healthcheck) -> str:
    """Go's ``%q`` of the structure."""
    times = (check.interval, check.timeout, check.start_period, check.start_interval)
    shown = " ".join(f'"{_duration(value)}"' for value in times)
    return f"HEALTHCHECK &{{{quoted(check.test)} {shown} '\\x{check.retries:02x}'}}"


def _duration(nanoseconds: int) -> str:
    """Go's text of a duration for whole milliseconds or more."""
    if nanoseconds == 0:
        return "0s"
    seconds, rest = divmod(nanoseconds, 10**9)
    if not seconds:
        return f"{rest / 10**6:g}ms"
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    tail = f"{seconds % 60 + rest / 10**9:g}s"
    if hours:
        return f"{hours}h{minutes}m{tail}"
    return f"{minutes}m{tail}" if minutes else tail


def describe_fields(fields: Mapping[str, Any]) -> str:
    """The instruction that the fields of a cache key come from; empty for keys of no instruction."""
    match fields.get("op"):
        case "run":
            argv = [str(word) for word in fields.get("argv", ())]
            return f"RUN {argv[2] if argv[:2] == ['/bin/sh', '-c'] and len(argv) == 3 else quoted(argv)}"
        case "copy":
            verb = "ADD" if fields.get("unpack") or fields.get("downloads") else "COPY"
            inline = [item[0] for item in fields.get("inline", ())]
            words = [*fields.get("sources", ()), *inline, *fields.get("downloads", ()), fields.get("destination", "")]
            return " ".join([verb, *words])
        case "workdir":
            return f"WORKDIR {fields.get('path', '')}"
        case _:
            return ""
