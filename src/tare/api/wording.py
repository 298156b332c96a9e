"""Docker's words for durations and container states (go-units ``HumanDuration``)."""

from __future__ import annotations

from datetime import UTC, datetime

from tare.model.container import ContainerState
from tare.model.state import ContainerStatus

ZERO_TIME = "0001-01-01T00:00:00Z"

_HOUR = 3600
_DAY = 24 * _HOUR


def human_duration(seconds: float) -> str:
    """A duration in one unit, as Docker prints it: ``About a minute``, ``3 weeks``."""
    if seconds < 1:
        return "Less than a second"
    whole = int(seconds)
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / _HOUR + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    days = hours // 24
    if hours < 24 * 7 * 2:
        return f"{days} days"
    if hours < 24 * 30 * 2:
        return f"{days // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{days // 30} months"
    return f"{int(seconds / _DAY) // 365} years"


def parse_time(text: str) -> float:
    """RFC 3339 with any number of fraction digits as seconds since 1970 (0 for the zero time)."""
    if not text or text == ZERO_TIME:
        return 0.0
    head, dot, rest = text.partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        head = f"{head}.{rest[:digits][:6]:0<6}{rest[digits:]}"
    moment = datetime.fromisoformat(head)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def format_time(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def status_text(state: ContainerState, now: float) -> str:
    """The STATUS column of ``ps``; ``now`` is seconds since 1970."""
    match ContainerStatus(state.status):
        case ContainerStatus.RUNNING:
            up = f"Up {human_duration(now - parse_time(state.started_at))}"
            return f"{up} ({_health(state)})" if state.health is not None else up
        case ContainerStatus.PAUSED:
            return f"Up {human_duration(now - parse_time(state.started_at))} (Paused)"
        case ContainerStatus.RESTARTING:
            ago = human_duration(now - parse_time(state.finished_at))
            return f"Restarting ({state.exit_code}) {ago} ago"
        case ContainerStatus.REMOVING:
            return "Removal In Progress"
        case ContainerStatus.DEAD:
            return "Dead"
        case ContainerStatus.CREATED:
            return "Created"
        case ContainerStatus.EXITED:
            if not parse_time(state.finished_at):
                return "Created"
            return f"Exited ({state.exit_code}) {human_duration(now - parse_time(state.finished_at))} ago"


def _health(state: ContainerState) -> str:
    status = state.health.status if state.health is not None else "none"
    return f"health: {status}" if status == "starting" else status
