"""The options of ``run`` and ``create`` that say how a container's health is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from tare.cli.flags import read_duration, read_integer
from tare.errors import InvalidArgument

_HEALTH = ("health_cmd", "health_interval", "health_timeout", "health_start_period", "health_start_interval")

HEALTH_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--health-cmd", default="", help="Command that tells whether it is healthy."),
    click.option("--health-interval", default="", help="Time between two checks, such as 30s."),
    click.option("--health-retries", default="", help="Failures in a row that make it unhealthy."),
    click.option("--health-start-interval", default="", help="Time between two checks in the start period."),
    click.option("--health-start-period", default="", help="Time in which failures do not count."),
    click.option("--health-timeout", default="", help="Longest time of one check."),
    click.option("--no-healthcheck", is_flag=True, help="Don't check its health."),
)


def read_health(given: dict[str, Any]) -> dict[str, Any] | None:
    """The ``--health-…`` options as the API's HealthConfig, None when there are none. Raises InvalidArgument."""
    retries = read_integer(given["health_retries"], "--health-retries")
    wanted = any(given[name] for name in _HEALTH) or retries != 0
    if given["no_healthcheck"]:
        if wanted:
            raise InvalidArgument("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not wanted:
        return None
    if retries < 0:
        raise InvalidArgument("--health-retries cannot be negative")
    document: dict[str, Any] = {"Retries": retries}
    if given["health_cmd"]:
        document["Test"] = ["CMD-SHELL", given["health_cmd"]]
    for name, member in zip(_HEALTH[1:], ("Interval", "Timeout", "StartPeriod", "StartInterval"), strict=True):
        document[member] = read_duration(given[name], "--" + name.replace("_", "-"))
    return document
