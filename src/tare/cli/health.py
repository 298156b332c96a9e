"""The options of ``run`` and ``create`` that say how a container's health is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from tare.base.durations import parse_duration
from tare.errors import InvalidArgument

_NS = 1_000_000_000
_DURATIONS = {
    "health_interval": ("Interval", "Time between checks, such as 30s (default 30s)."),
    "health_timeout": ("Timeout", "Time that one check may take (default 30s)."),
    "health_start_period": ("StartPeriod", "Time after a start in which failures do not count."),
    "health_start_interval": ("StartInterval", "Time between checks in the start period (default 5s)."),
}
_CHECKS = ("health_cmd", "health_http", "health_tcp")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


HEALTH_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--health-cmd", default="", help="Command that checks its health."),
    click.option("--health-http", default="", help="Check its health by HTTP from inside: [ADDRESS]:PORT[/PATH]."),
    click.option("--health-tcp", default="", help="Check its health by a connection from inside: [ADDRESS]:PORT."),
    *(click.option(_option(name), default="", help=text) for name, (_, text) in _DURATIONS.items()),
    click.option("--health-retries", type=int, default=0, help="Failures in a row that make it unhealthy (default 3)."),
    click.option("--no-healthcheck", is_flag=True, help="Don't check its health, whatever its image says."),
)


def read_health(given: dict[str, Any]) -> dict[str, Any] | None:
    """The API's HealthConfig; None when nothing was said about it. Raises InvalidArgument."""
    said = any(given[name] for name in (*_CHECKS, *_DURATIONS, "health_retries"))
    if given["no_healthcheck"]:
        if said:
            raise InvalidArgument("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not said:
        return None
    checks = [name for name in _CHECKS if given[name]]
    if len(checks) > 1:
        raise InvalidArgument(f"{_option(checks[0])} and {_option(checks[1])} exclude each other", hint="give one")
    document: dict[str, Any] = {"Test": None, "Retries": given["health_retries"]}
    if checks:
        kind = {"health_cmd": "CMD-SHELL", "health_http": "HTTP", "health_tcp": "TCP"}[checks[0]]
        document["Test"] = [kind, given[checks[0]]]
    if document["Retries"] < 0:
        raise InvalidArgument("--health-retries cannot be negative")
    for name, (member, _) in _DURATIONS.items():
        document[member] = _duration(name, given[name])
    return document


def _duration(name: str, text: str) -> int:
    if not text:
        return 0
    seconds = parse_duration(text.removeprefix("-"))
    if seconds is None:
        raise InvalidArgument(
            f'invalid argument "{text}" for "{_option(name)}" flag: time: invalid duration "{text}"',
            hint="such as 30s or 1m30s",
        )
    if text.startswith("-") and seconds:
        raise InvalidArgument(f"{_option(name)} cannot be negative")
    return round(seconds * _NS)
