"""What the filters of all ``prune`` have in common, with Docker's meaning. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone

from tare.base.durations import parse_duration
from tare.engine.requests import Filters
from tare.errors import InvalidArgument

_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII | re.IGNORECASE
)


def check_names(filters: Filters, known: Collection[str]) -> None:
    """Raises InvalidArgument for a filter that is not one of ``known``."""
    for name in filters:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'", hint=f"known are {', '.join(known)}")


def until_limit(filters: Filters, now: float) -> float | None:
    """The moment of ``until`` in seconds since the epoch, None without one. Raises InvalidArgument."""
    moments = filters.get("until") or []
    if len(moments) > 1:
        raise InvalidArgument("more than one until filter specified")
    return until_moment(moments[0], now) if moments else None


def until_moment(text: str, now: float) -> float:
    """``24h`` before ``now``, a number of seconds, or a date with or without time and zone, as seconds since the epoch.

    A time without zone is the engine's local one, as in Docker. Raises InvalidArgument.
    """
    if _SECONDS.fullmatch(text):
        return float(text)
    if (seconds := parse_duration(text)) is not None:
        return now - seconds
    match = _MOMENT.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        date, hour, minute, second, fraction, zone = match.groups()
        moment = datetime.fromisoformat(f"{date}T{hour or '00'}:{minute or '00'}:{second or '00'}")
        return moment.replace(tzinfo=_zone(zone, now)).timestamp() + float(f"0.{fraction or 0}")
    except ValueError as error:
        raise InvalidArgument(
            f'failed to parse value as time or duration: "{text}"', hint="such as 24h or 2026-05-30T12:00:00"
        ) from error


def _zone(text: str | None, now: float) -> timezone:
    """The zone that is written, else the offset that local time has at ``now``."""
    if text is None:
        return timezone(datetime.fromtimestamp(now, UTC).astimezone().utcoffset() or timedelta())
    if text in "Zz":
        return UTC
    hours, minutes = int(text[1:3]), int(text[4:6])
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)


def labels_fit(labels: Mapping[str, str], filters: Filters) -> bool:
    """Whether an object with these labels may go: it has all of ``label`` and lacks one of ``label!``, where given.

    What has only some of several ``label!`` goes, as in Docker.
    """
    unwanted = filters.get("label!") or []
    return has_labels(labels, filters.get("label") or []) and not (unwanted and has_labels(labels, unwanted))


def has_labels(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Whether all of ``NAME`` or ``NAME=VALUE`` are among the labels."""
    return all(_has_label(labels, text) for text in wanted)


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)
