"""The words that Docker writes into an image's history, and step names."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tare.oci.image import Healthcheck

_SHORT = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}

COMMENT = "buildkit.dockerfile.v0"
"""What tools look for in a history entry to know how to read it."""


def one_line(text: str) -> str:
    """An instruction on one line."""
    return " ".join(text.split())


def quoted(argv: Iterable[str]) -> str:
    """Go's ``%q`` of a list of strings (strconv.Quote)."""
    return "[" + " ".join(f'"{"".join(_escaped(ord(char), 34) for char in item)}"' for item in argv) + "]"


def _escaped(number: int, quote: int) -> str:
    """A character between quotes that are the character ``quote``; surrogates become the replacement character."""
    if number > sys.maxunicode or 0xD800 <= number < 0xE000:
        number = 0xFFFD
    if number in (quote, 0x5C):
        return f"\\{chr(number)}"
    if chr(number).isprintable():
        return chr(number)
    if number in _SHORT:
        return _SHORT[number]
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def run_command(argv: Sequence[str], arguments: Mapping[str, str]) -> str:
    """A RUN step's command; declared ARGs go in front as ``|count name=value …``."""
    shown = [f"{name}={value}" for name, value in arguments.items()]
    return " ".join([*([f"|{len(shown)}", *shown] if shown else []), *argv])


def healthcheck(check: Healthcheck) -> str:
    """Go's ``%q`` of the structure, in which the number of retries counts as a character (strconv.QuoteRune)."""
    times = (check.interval, check.timeout, check.start_period, check.start_interval)
    shown = " ".join(f'"{_duration(value)}"' for value in times)
    return f"HEALTHCHECK &{{{quoted(check.test)} {shown} '{_escaped(check.retries, 39)}'}}"


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
        case "assemble":
            return f"ASSEMBLE {' '.join(fields.get('packages', ()))}"
        case "workdir":
            return f"WORKDIR {fields.get('path', '')}"
        case _:
            return ""
