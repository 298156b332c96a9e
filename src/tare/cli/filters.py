"""``--filter`` options."""

from __future__ import annotations

from collections.abc import Iterable

from tare.errors import InvalidArgument


def read_filters(texts: Iterable[str]) -> dict[str, list[str]]:
    """``KEY=VALUE`` options as the API's filters. Raises InvalidArgument."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InvalidArgument(
                f'invalid argument "{text}" for "-f, --filter": bad format of filter', hint="use key=value"
            )
        found.setdefault(name.strip().lower(), []).append(value.strip())
    return found
