"""Health checks: what they are read from, when they run, what their results make of a container."""

from __future__ import annotations

from typing import Any

import pytest

from tare.engine.health import judge
from tare.engine.health_checks import HealthCheck, health_check, read_target, settle_health
from tare.engine.health_probes import go_duration
from tare.engine.health_records import CheckResult
from tare.errors import InvalidArgument
from tare.model.container import ContainerConfig, HealthConfig, HealthState
from tare.oci.image import ExecutionConfig, Healthcheck

SECOND = 1_000_000_000
STARTED = "2026-01-01T00:00:00Z"


def settled(own: HealthConfig | None, labels: dict[str, str], image: ExecutionConfig) -> HealthConfig | None:
    config = ContainerConfig(healthcheck=own, labels=labels)
    assert settle_health(config, image) == []
    return config.healthcheck


def test_request_then_its_labels_then_the_images_labels_then_its_healthcheck() -> None:
    image = ExecutionConfig(
        labels={"tare.health.tcp": ":1", "tare.health.timeout": "2s"},
        healthcheck=Healthcheck(test=["CMD", "x"], retries=9, start_period=SECOND),
    )
    asked = HealthConfig(interval=5 * SECOND)
    assert settled(asked, {"tare.health.http": ":80/a"}, image) == HealthConfig(
        test=["HTTP", ":80/a"], interval=5 * SECOND, timeout=2 * SECOND, retries=9, start_period=SECOND
    )
    assert (settled(None, {}, image) or HealthConfig()).test == ["TCP", ":1"]
    assert (settled(HealthConfig(test=["NONE"]), {}, image) or HealthConfig()).test == ["NONE"]
    assert settled(None, {}, ExecutionConfig()) is None


def test_unknown_kind_is_a_warning_and_no_check() -> None:
    config = ContainerConfig(healthcheck=HealthConfig(test=["FOO", "x"]))
    (warning,) = settle_health(config, ExecutionConfig())
    assert "'FOO'" in warning
    assert health_check(config) is None


@pytest.mark.parametrize(
    ("test", "command"),
    [
        (["CMD", "a", "b c"], ("a", "b c")),
        (["CMD-SHELL", "a b"], ("/bin/sh", "-c", "a b")),
    ],
)
def test_commands(test: list[str], command: tuple[str, ...]) -> None:
    check = health_check(ContainerConfig(healthcheck=HealthConfig(test=test)))
    assert check == HealthCheck(command=command)


def test_shell_of_the_image_is_used() -> None:
    check = health_check(ContainerConfig(shell=["/bin/bash", "-ec"], healthcheck=HealthConfig(test=["CMD-SHELL", "x"])))
    assert check is not None
    assert check.command == ("/bin/bash", "-ec", "x")


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("HTTP", ":8080/a?b=c", (("127.0.0.1", "::1"), 8080, "/a?b=c")),
        ("HTTP", "8080", (("127.0.0.1", "::1"), 8080, "/")),
        ("HTTP", "8080/x", (("127.0.0.1", "::1"), 8080, "/x")),
        ("HTTP", "localhost:1/", (("127.0.0.1", "::1"), 1, "/")),
        ("HTTP", "10.0.0.9:80", (("10.0.0.9",), 80, "/")),
        ("TCP", "[::1]:65535", (("::1",), 65535, "")),
    ],
)
def test_targets(kind: str, text: str, expected: tuple[Any, ...]) -> None:
    target = read_target(kind, text)
    assert (target.addresses, target.port, target.path) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("HTTP", ""), ("HTTP", ":"), ("HTTP", "/x"), ("HTTP", ":80x"), ("HTTP", ":0"), ("TCP", ":65536"),
        ("HTTP", "http://localhost:80/"), ("HTTP", "web:80"), ("HTTP", "::1:80"), ("HTTP", ":80/a b"),
        ("HTTP", ":80/a\r\nX: y"),
        ("HTTP", ":80/é"), ("TCP", ":80/"), ("TCP", "[::1"), ("TCP", ":٣"), ("HTTP", ":80\n"),
    ],
)  # fmt: skip
def test_targets_that_are_refused(kind: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"health check {kind}") as caught:
        read_target(kind, text)
    assert caught.value.code == "health-target"
    assert caught.value.hint


@pytest.mark.parametrize(
    "labels",
    [
        {"tare.health.http": ":1", "tare.health.tcp": ":2"},
        {"tare.health.retries": "-1"},
        {"tare.health.retries": "٣"},
        {"tare.health.interval": "-1s"},
        {"tare.health.nothing": ""},
    ],
)
def test_labels_that_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        settle_health(ContainerConfig(labels=labels), ExecutionConfig())
    assert caught.value.code == "health-label"


def test_pause_between_checks() -> None:
    check = HealthCheck(command=("x",), interval=30, start_period=10, start_interval=1)
    assert check.pause(running_for=0, status="starting") == 1
    assert check.pause(running_for=9.9, status="healthy") == 30
    assert check.pause(running_for=10, status="starting") == 30


def result(code: int, second: int) -> CheckResult:
    return CheckResult(start=f"2026-01-01T00:00:{second:02}Z", end="", exit_code=code, output="")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([0], ("healthy", 0)),
        ([1], ("starting", 1)),
        ([1, -1], ("unhealthy", 2)),
        ([0, 1], ("healthy", 1)),
        ([0, 1, 0], ("healthy", 0)),
        ([0, 1, 1, 1], ("unhealthy", 3)),
        ([1, 1, 0], ("healthy", 0)),
    ],
)
def test_results_in_a_row(codes: list[int], expected: tuple[str, int]) -> None:
    health, check = HealthState(), HealthCheck(command=("x",), retries=2)
    for code in codes:
        health = judge(health, result(code, 30), check, STARTED)
    assert (health.status, health.failing_streak) == expected


def test_failures_in_the_start_period_do_not_count_until_it_was_healthy() -> None:
    check = HealthCheck(command=("x",), retries=1, start_period=20)
    assert judge(HealthState(), result(1, 19), check, STARTED) == HealthState()
    assert judge(HealthState(), result(1, 20), check, STARTED).status == "unhealthy"
    assert judge(HealthState(status="healthy"), result(1, 5), check, STARTED).status == "unhealthy"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "300ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (90, "1m30s"),
        (60, "1m0s"),
        (3600, "1h0m0s"),
        (0.0015, "1.5ms"),
        (0, "0s"),
    ],
)
def test_durations_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
