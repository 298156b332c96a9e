"""Restart policies: whether a container that has ended is started again, and after how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tare.errors import InvalidArgument
from tare.model.container import Container, RestartPolicy

POLICIES = ("no", "on-failure", "always", "unless-stopped", "on-unhealthy")
_COUNTED = ("on-failure", "on-unhealthy")
FIRST_DELAY = 0.1  # seconds; doubled with each quick end, as Docker does
LAST_DELAY = 60.0
LONG_RUN = 10.0  # a run of this many seconds sets the delay back


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container ended: exit code, seconds it ran, and whether checks had found it unhealthy."""

    code: int
    ran: float
    unhealthy: bool = False


def check_policy(policy: RestartPolicy) -> None:
    """Refuse a policy that does not exist or has a count it does not take. Raises InvalidArgument."""
    name, count = policy.name, policy.maximum_retry_count
    if name and name not in POLICIES:  # in Docker's words, which know nothing of on-unhealthy
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            code="restart-policy",
        )
    if name in _COUNTED and count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative", code="restart-policy")
    if name not in ("", *_COUNTED) and count != 0:
        message = "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        raise InvalidArgument(message + (" and cannot be negative" if count < 0 else ""), code="restart-policy")


def next_delay(container: Container, ended: Ended) -> float | None:
    """Seconds until ``container`` is started again; None when it is not. Its state is that of the run that ended."""
    state, policy = container.state, container.host_config.restart_policy
    if policy.name in ("", "no") or state.stopped_by_user:
        return None
    if policy.name in _COUNTED:
        if not may_restart(container):
            return None
        if ended.code == 0 and not (ended.unhealthy and policy.name == "on-unhealthy"):
            return None
    if ended.ran >= LONG_RUN or not state.restart_delay:
        return FIRST_DELAY
    return min(state.restart_delay * 2, LAST_DELAY)


def may_restart(container: Container) -> bool:
    """Whether the policy's count leaves one more restart."""
    limit = container.host_config.restart_policy.maximum_retry_count
    return limit == 0 or container.state.restart_count < limit


def ends_when_unhealthy(container: Container) -> bool:
    """Whether a container that has become unhealthy is stopped to be started again."""
    policy = container.host_config.restart_policy
    return policy.name == "on-unhealthy" and may_restart(container) and not container.state.stopped_by_user


def starts_with_engine(container: Container) -> bool:
    """Whether a container that had ended before the engine did is started with the next engine, as in Docker."""
    policy, state = container.host_config.restart_policy.name, container.state
    if not state.started_at or state.started_at.startswith("0001-"):
        return False
    return policy == "always" or (policy == "unless-stopped" and not state.stopped_by_user)
