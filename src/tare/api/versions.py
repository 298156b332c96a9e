"""API versions: which are spoken, and how a request says which one it wants."""

from __future__ import annotations

import re

from tare.errors import InvalidArgument

API_VERSION = "1.51"
MIN_API_VERSION = "1.24"
MULTIPLEXED_SINCE = (1, 42)
"""First version whose log and attach responses name the multiplexed framing in Content-Type (API 1.42 notes)."""

Version = tuple[int, int]

_VERSION = re.compile(r"(\d+)\.(\d+)")


def parse_version(text: str) -> Version:
    """``"1.51"`` as ``(1, 51)``; raises InvalidArgument for anything else."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"invalid API version {text!r}: expected two numbers such as {API_VERSION}")
    return int(match[1]), int(match[2])


def negotiate(text: str | None) -> Version:
    """The version to answer a request with; None is a path without version, which means the newest.

    Raises InvalidArgument, with the words that Docker clients know, outside the spoken range.
    """
    if text is None:
        return parse_version(API_VERSION)
    version = parse_version(text)
    if version > parse_version(API_VERSION):
        raise InvalidArgument(f"client version {text} is too new. Maximum supported API version is {API_VERSION}")
    if version < parse_version(MIN_API_VERSION):
        raise InvalidArgument(
            f"client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, "
            "please upgrade your client to a newer version"
        )
    return version
