"""Small values inside flags: durations, sizes, booleans; in the forms that Go's tools accept."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from tare.errors import InvalidArgument

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION_PART = re.compile(r"([0-9]{1,18})?(?:\.([0-9]{0,18}))?(ns|us|µs|μs|ms|s|m|h)")
_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))? ?([kmgtp]?)(i?b)?", re.IGNORECASE)
_SIZE_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_MAX_DURATION = 2**63 - 1


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration such as ``1m30s`` or ``1.5h``; raises InvalidArgument."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total, position = 0, 0
    while position < len(rest):
        part = _DURATION_PART.match(rest, position)
        if part is None or not (part[1] or part[2]):
            break
        unit = _UNITS[part[3]]
        fraction = part[2] or ""
        total += int(part[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        position = part.end()
    if not rest or position < len(rest) or total > _MAX_DURATION:
        cause = "missing unit in" if re.fullmatch(r"[0-9]+\.?[0-9]*", rest, re.ASCII) else "invalid"
        raise InvalidArgument(
            f'time: {cause} duration "{text}"', hint="write a number and a unit, such as 30s or 1m30s"
        )
    return sign * total


def parse_size(text: str) -> int:
    """Bytes of a size such as ``64m`` or ``1.5GiB`` (units are powers of 1024); raises InvalidArgument."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidArgument(f'invalid size "{text}"', hint="write a number and a unit, such as 64m")
    scale: int = 1 << 10 * _SIZE_POWER[match[3].lower()]
    fraction: str = match[2] or ""
    return int(match[1]) * scale + int(fraction or 0) * scale // int("1" + "0" * len(fraction))


def parse_bool(text: str) -> bool:
    """One of ``1 t T TRUE true True 0 f F FALSE false False``; raises InvalidArgument."""
    if text in {"1", "t", "T", "TRUE", "true", "True"}:
        return True
    if text in {"0", "f", "F", "FALSE", "false", "False"}:
        return False
    raise InvalidArgument(f'invalid boolean "{text}"', hint="write true or false")


def suggestion(word: str, known: Iterable[str]) -> str:
    """``" (did you mean X?)"`` for the nearest of ``known``, or nothing where none is near."""
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word[:40].lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[near[0]]}?)" if near and by_lower[near[0]] != word else ""
