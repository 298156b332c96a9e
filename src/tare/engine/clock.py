"""Times as Docker writes them: RFC 3339 with nanoseconds, in UTC."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

ZERO_TIME = "0001-01-01T00:00:00Z"
_SECONDS = re.compile(r"(\d+)(?:\.(\d+))?", re.ASCII)
_RFC3339 = re.compile(r"([^.]+?)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII)


def now() -> str:
    """The present time."""
    return format_ns(time.time_ns())


def format_ns(nanoseconds: int) -> str:
    """Nanoseconds since the epoch as RFC 3339; trailing zeros of the fraction are dropped as Go does."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    base = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09d}".rstrip("0")
    return f"{base}.{digits}Z" if digits else f"{base}Z"


def to_seconds(text: str) -> float:
    """RFC 3339 as seconds since the epoch; 0 for the zero time and for an empty text."""
    if not text or text.startswith("0001-"):
        return 0.0
    return to_nanoseconds(text) / 1_000_000_000


def to_nanoseconds(text: str) -> int:
    """Seconds since the epoch, such as ``1700000000.000000001``, or RFC 3339, exactly. Raises ValueError.

    No float comes between: it could not tell two log lines of one microsecond apart.
    """
    match = _SECONDS.fullmatch(text)
    if match is not None:
        whole = int(match[1])
    else:
        match = _RFC3339.fullmatch(text)
        if match is None:
            raise ValueError(text)
        zone = match[3] or "Z"
        whole = int(datetime.fromisoformat(match[1] + ("+00:00" if zone == "Z" else zone)).timestamp())
    return whole * 1_000_000_000 + int((match[2] or "").ljust(9, "0")[:9])
