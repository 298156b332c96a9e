"""Times as Docker writes them: RFC 3339 with nanoseconds, in UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime

ZERO_TIME = "0001-01-01T00:00:00Z"


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
    body, _, fraction = text.removesuffix("Z").partition(".")
    parsed = datetime.fromisoformat(body if "+" in body else body + "+00:00")
    return parsed.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
