"""Restart policies."""

from __future__ import annotations

import pytest

from tare.engine.restarts import Ended, check_policy, next_delay, starts_with_engine
from tare.errors import InvalidArgument
from tare.model.container import Container, ContainerConfig, ContainerState, HostConfig, RestartPolicy


def container(policy: str, limit: int = 0, **state: object) -> Container:
    return Container(
        id="a" * 64, name="c", created="", image_id="", image_name="", path="", args=[], config=ContainerConfig(),
        host_config=HostConfig(restart_policy=RestartPolicy(name=policy, maximum_retry_count=limit)),
        networking={}, mounts=[], state=ContainerState(**state),  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "code", "unhealthy", "restarts"),
    [
        ("", 1, False, False), ("no", 1, True, False), ("always", 0, False, True), ("unless-stopped", 0, False, True),
        ("on-failure", 0, False, False), ("on-failure", 1, False, True), ("on-failure", 0, True, False),
        ("on-unhealthy", 0, False, False), ("on-unhealthy", 3, False, True), ("on-unhealthy", 0, True, True),
    ],
)  # fmt: skip
def test_which_end_is_followed_by_a_start(policy: str, code: int, unhealthy: bool, restarts: bool) -> None:
    ended = Ended(code=code, ran=1.0, unhealthy=unhealthy)
    assert (next_delay(container(policy), ended) is not None) == restarts
    assert next_delay(container(policy, stopped_by_user=True), ended) is None


def test_back_off_doubles_to_a_minute_and_is_set_back_by_a_long_run() -> None:
    delay, delays = 0.0, []
    for _ in range(12):
        delay = next_delay(container("always", restart_delay=delay), Ended(code=1, ran=0.5)) or 0.0
        delays.append(delay)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-2:] == [60.0, 60.0]
    assert next_delay(container("always", restart_delay=60.0), Ended(code=1, ran=10.0)) == 0.1


@pytest.mark.parametrize("policy", ["on-failure", "on-unhealthy"])
def test_count_is_a_limit(policy: str) -> None:
    assert next_delay(container(policy, 2, restart_count=1), Ended(code=1, ran=0)) is not None
    assert next_delay(container(policy, 2, restart_count=2), Ended(code=1, ran=0)) is None


@pytest.mark.parametrize(
    ("policy", "stopped", "started", "expected"),
    [
        ("always", True, True, True), ("always", False, False, False), ("unless-stopped", True, True, False),
        ("unless-stopped", False, True, True), ("on-failure", False, True, False), ("no", False, True, False),
    ],
)  # fmt: skip
def test_what_starts_with_the_engine(policy: str, stopped: bool, started: bool, expected: bool) -> None:
    times = {"started_at": "2026-01-01T00:00:00Z"} if started else {}
    assert starts_with_engine(container(policy, stopped_by_user=stopped, **times)) is expected


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("sometimes", 0, "unknown policy 'sometimes'; use one of"),
        ("always", 1, "can only be used with 'on-failure'"),
        ("no", -1, "and cannot be negative"),
        ("on-failure", -1, "maximum retry count cannot be negative"),
    ],
)
def test_policies_that_are_refused(name: str, count: int, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        check_policy(RestartPolicy(name=name, maximum_retry_count=count))
