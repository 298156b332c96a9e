"""Sizes and times as Docker's command line reads and prints them (go-units)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from tare.base.durations import parse_duration
from tare.errors import InvalidArgument

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s?([kKmMgGtTpP])?(?:i?[bB])?")
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

_HOUR = 3600
_DAY = 24 * _HOUR


def human_size(size: float, digits: int = 3) -> str:
    """Bytes in decimal units with ``digits`` significant digits: ``1.24GB``."""
    return _human(size, 1000.0, _DECIMAL, digits)


def human_binary(size: float) -> str:
    """Bytes in binary units with four significant digits: ``7.63GiB``."""
    return _human(size, 1024.0, _BINARY, 4)


def _human(size: float, base: float, names: tuple[str, ...], digits: int) -> str:
    index = 0
    while size >= base and index < len(names) - 1:
        size /= base
        index += 1
    return f"{size:.{digits}g}{names[index]}"


def parse_size(text: str, option: str) -> int:
    """``512m``, ``1.5g``, ``100`` in bytes; units are binary. Raises InvalidArgument naming ``option``."""
    return _parse_size(text, option, 1024)


def parse_weight(text: str, option: str) -> int:
    """As :func:`parse_size` with decimal units, as sizes of images are shown."""
    return _parse_size(text, option, 1000)


def _parse_size(text: str, option: str, base: int) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f'invalid argument "{text}" for {option}: invalid size', hint="such as 512m or 1.5g")
    return int(float(match[1]) * base ** _POWERS.get((match[2] or "").lower(), 0))


def human_duration(seconds: float) -> str:
    """A duration in one unit: ``About a minute``, ``3 weeks``."""
    if seconds < 1:
        return "Less than a second"
    whole = int(seconds)
    steps = (
        (whole == 1, "1 second"),
        (whole < 60, f"{whole} seconds"),
        (whole < 120, "About a minute"),
        (whole < _HOUR, f"{whole // 60} minutes"),
    )
    for fits, text in steps:
        if fits:
            return text
    hours = int(seconds / _HOUR + 0.5)
    if hours <= 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 14:
        return f"{hours // 24} days"
    if hours < 24 * 60:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 730:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / _DAY) // 365} years"


def ago(moment: float, now: float) -> str:
    """How long ago ``moment`` was (seconds since 1970); Docker's words for an unknown time."""
    return f"{human_duration(now - moment)} ago" if moment > 0 else "N/A"


def local_time(moment: float) -> str:
    """Seconds since 1970 as ``2026-05-30 12:07:14 +0000 UTC`` in local time."""
    there = datetime.fromtimestamp(moment, UTC).astimezone()
    return f"{there:%Y-%m-%d %H:%M:%S %z} {there.tzname()}"


def parse_moment(text: str, now: float) -> str:
    """A time option (``10m``, ``2026-05-30T12:00:00``, seconds) as the API wants it: seconds since 1970.

    Raises InvalidArgument.
    """
    if not text:
        return ""
    if re.fullmatch(r"\d+(\.\d{1,9})?", text):
        return text
    if (seconds := parse_duration(text)) is not None:
        return f"{now - seconds:.9f}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument(f"{text!r} is not a time", hint="such as 10m, 2026-05-30T12:00:00Z") from error
    return f"{moment.astimezone(moment.tzinfo or _local_zone()).timestamp():.9f}"


def _local_zone() -> timezone:
    return timezone(datetime.now(UTC).astimezone().utcoffset() or timedelta())


def parse_rfc3339(text: str) -> float:
    """RFC 3339 with any number of fraction digits as seconds since 1970; 0 for the zero time."""
    if not text or text.startswith("0001-"):
        return 0.0
    match = re.fullmatch(r"([^.]+?)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", text)
    if match is None:
        return 0.0
    moment = datetime.fromisoformat(match[1] + (match[3] or "Z").replace("Z", "+00:00"))
    return moment.timestamp() + float(f"0.{match[2] or 0}")
