"""Health checks and the restarts that follow from them, in a real engine by Docker's own client."""

from __future__ import annotations

import json
import select
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from engine_process import EngineProcess
from engine_state import container_processes

pytestmark = [pytest.mark.root, pytest.mark.e2e]

QUICK = ("--health-interval", "100ms")
WEB = "mkdir /w; echo hello > /w/ok; exec httpd -f -p 8080 -h /w"


@pytest.fixture(autouse=True)
def _none_left(own: EngineProcess) -> Iterator[None]:
    yield
    own.remove_containers()


def run(own: EngineProcess, *words: str, name: str = "checked") -> str:
    return own.text("run", "-d", "--name", name, "--stop-timeout", "1", *words)


def await_events(own: EngineProcess, action: str, count: int = 1, name: str = "checked") -> list[str]:
    """The first ``count`` events of a container whose action begins with ``action``, past ones included."""
    identifier = own.text("inspect", "-f", "{{.Id}}", name)
    command = ("events", "--since", "1h", "--filter", f"container={identifier}", "--format", "{{.Action}}")
    events, found, buffer = own.start_docker(*command), [], b""
    try:
        assert events.stdout is not None
        while len(found) < count:
            assert select.select([events.stdout], [], [], 30)[0], f"{action}: only {found}\n{own.log}"
            data = events.stdout.read1()  # type: ignore[attr-defined]
            assert data, own.log
            *lines, buffer = (buffer + data).split(b"\n")
            found += [line.decode() for line in lines if line.startswith(action.encode())]
    finally:
        events.kill()
        events.communicate()
    return found[:count]


def health(own: EngineProcess, name: str = "checked") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(own.text("inspect", "-f", "{{json .State.Health}}", name))
    return document


def test_command_makes_it_healthy_and_then_unhealthy(own: EngineProcess) -> None:
    test = "echo out; echo err >&2; test ! -e /tmp/broken"
    run(own, "--health-cmd", test, *QUICK, "--health-retries", "2", "busybox", "sleep", "1000")
    assert await_events(own, "health_status") == ["health_status: healthy"]
    assert "(healthy)" in own.text("ps", "--format", "{{.Status}}")
    assert own.text("ps", "-q", "--filter", "health=healthy") != ""
    assert sorted(health(own)["Log"][0]["Output"].split()) == ["err", "out"]
    own.docker("exec", "checked", "touch", "/tmp/broken")
    assert await_events(own, "health_status", 2) == ["health_status: healthy", "health_status: unhealthy"]
    now = health(own)
    assert (now["Status"], now["FailingStreak"] >= 2, now["Log"][-1]["ExitCode"]) == ("unhealthy", True, 1)
    await_events(own, "exec_die", 8)
    assert len(health(own)["Log"]) == 5
    started = await_events(own, "exec_", 3)
    assert started == [f"exec_create: /bin/sh -c {test}", f"exec_start: /bin/sh -c {test}", "exec_die"]


def test_output_is_cut_and_a_missing_command_is_a_failure(own: EngineProcess) -> None:
    cut = "yes 0123456789 | head -c 6000; exit 3"
    run(own, "--health-cmd", cut, *QUICK, "--health-retries", "1", "busybox", "sleep", "1000")
    await_events(own, "health_status")
    result = health(own)["Log"][0]
    assert (result["ExitCode"], len(result["Output"]), result["Output"][-4:]) == (3, 4099, "3...")
    own.docker("rm", "-f", "checked")
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck": {"Test": ["CMD", "/nope"], "Interval": 10**8}}
    assert request(own, "POST", "/containers/create?name=absent", body)[0] == 201
    own.docker("start", "absent")
    await_events(own, "health_status", name="absent")
    result = health(own, "absent")["Log"][0]
    assert result["ExitCode"] == -1
    assert "no such file or directory" in result["Output"]


def test_time_out_kills_the_check_with_its_children(own: EngineProcess) -> None:
    check = ("--health-cmd", "echo begun; setsid sleep 77 & sleep 78; echo", "--health-timeout", "200ms")
    identifier = run(own, *check, "--health-interval", "1h", "--health-start-interval", "100ms",
                     "--health-start-period", "1h", "busybox", "sleep", "1000")  # fmt: skip
    await_events(own, "exec_die", 2)
    own.docker("pause", "checked")  # ends the check that may be running
    assert len(container_processes(identifier)) == 1
    own.docker("unpause", "checked")
    results = health(own)["Log"]
    assert {item["ExitCode"] for item in results} == {-1}
    assert {item["Output"] for item in results} == {"Health check exceeded timeout (200ms): begun\n"}
    assert health(own)["FailingStreak"] == 0  # in the start period nothing counts


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--health-http", ":8080/ok"), "healthy", "HTTP 200 OK\nhello\n"),
        (("--health-http", "8080/missing"), "unhealthy", "HTTP 404 Not Found"),
        (("--health-http", ":8081"), "unhealthy", "HTTP port 8081: connection refused"),
        (("--health-tcp", ":8080"), "healthy", "TCP port 8080: connected"),
        (("--health-tcp", "127.0.0.1:8081"), "unhealthy", "TCP port 8081: connection refused"),
        (("--label", "tare.health.http=:8080/ok", "--network", "none"), "healthy", "HTTP 200 OK"),
        (("--label", "tare.health.tcp=:8080", "--network", "none"), "healthy", "TCP port 8080"),
    ],
)
def test_connections_from_inside(own: EngineProcess, options: tuple[str, ...], status: str, words: str) -> None:
    quick = (*QUICK, "--health-start-period", "1s", "--health-start-interval", "100ms", "--health-retries", "1")
    run_with(own, *options, *quick)
    assert await_events(own, "health_status") == [f"health_status: {status}"]
    assert words in health(own)["Log"][-1]["Output"]
    assert not [item for item in await_events(own, "", 3) if item.startswith("exec")]  # nothing runs in the container


def run_with(own: EngineProcess, *options: str) -> None:
    done = own.tare("run", "-d", "--name", "checked", "--stop-timeout", "1", *options, "busybox", "sh", "-c", WEB)
    assert done.stdout.strip()


def test_network_of_another_container_and_of_the_host(own: EngineProcess) -> None:
    run(own, "busybox", "sh", "-c", WEB, name="target")
    joined = ("--network", "container:target", "--label", "tare.health.http=:8080/ok")
    run(own, *joined, "--label", "tare.health.interval=100ms", "busybox", "sleep", "1000")
    assert await_events(own, "health_status") == ["health_status: healthy"]
    host = ("--network", "host", "--label", "tare.health.tcp=:8080", "--label", "tare.health.retries=1")
    run(own, *host, "--label", "tare.health.interval=100ms", "busybox", "sleep", "1000", name="outside")
    assert await_events(own, "health_status", name="outside") == ["health_status: unhealthy"]


def test_labels_of_an_image(own: EngineProcess) -> None:
    dockerfile = (
        b"FROM busybox\nLABEL tare.health.http=:8080/ok tare.health.interval=100ms\nHEALTHCHECK CMD false\n"
        b'CMD ["sh", "-c", "mkdir /w; echo hello > /w/ok; exec httpd -f -p 8080 -h /w"]\n'
    )
    own.docker("build", "-t", "labelled", "-", stdin=dockerfile)
    run(own, "labelled")
    assert await_events(own, "health_status") == ["health_status: healthy"]
    assert json.loads(own.text("inspect", "-f", "{{json .Config.Healthcheck.Test}}", "checked")) == ["HTTP", ":8080/ok"]
    run(own, "--no-healthcheck", "labelled", name="plain")
    assert own.text("inspect", "-f", "{{json .State.Health}}", "plain") == "null"
    assert own.text("ps", "--filter", "health=none", "--format", "{{.Names}}") == "plain"


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("tare.health.http=:0/x", "0 is not a port"),
        ("tare.health.http=web:80", "web is not an IP address"),
        ("tare.health.tcp=:80/x", "a TCP check has no path"),
        ("tare.health.interval=soon", 'label tare.health.interval: invalid value "soon"'),
        ("tare.health.colour=red", "unknown label tare.health.colour"),
    ],
)
def test_labels_that_cannot_be_read(own: EngineProcess, label: str, words: str) -> None:
    done = own.docker("create", "--label", label, "busybox", "true", check=False)
    assert done.returncode != 0
    assert words in done.stderr.decode()
    assert own.text("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"Test": ["CMD"]}, "has no command"),
        ({"Test": ["HTTP", ":80/ /"]}, "percent-encoded"),
        ({"Test": ["TCP", ":80", ":81"]}, "takes one target, not 2"),
        ({"Test": ["CMD", "true"], "Interval": 100}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Test": ["CMD", "true"], "Retries": -1}, "Retries in Healthcheck cannot be negative"),
    ],
)
def test_checks_that_are_refused(own: EngineProcess, check: dict[str, Any], words: str) -> None:
    status, text = request(own, "POST", "/containers/create", {"Image": "busybox", "Healthcheck": check})
    assert (status, words in text) == (400, True), text


def test_a_paused_container_is_not_checked(own: EngineProcess) -> None:
    run(own, "--health-cmd", "true", *QUICK, "busybox", "sleep", "1000")
    await_events(own, "health_status")
    own.docker("pause", "checked")
    assert health(own)["Status"] == "unhealthy"
    before = health(own)["Log"]
    own.docker("unpause", "checked")
    assert await_events(own, "health_status", 2)[1] == "health_status: healthy"
    assert health(own)["Log"] != before


def test_health_goes_on_with_the_next_engine(own: EngineProcess) -> None:
    identifier = run(own, "--health-cmd", "true; sleep 0.05", *QUICK, "busybox", "sleep", "1000")
    await_events(own, "health_status")
    hanging = ("--health-cmd", "sleep 500; true", *QUICK)
    stuck = run(own, *hanging, "busybox", "sleep", "1000", name="stuck")
    await_events(own, "exec_start", name="stuck")
    own.restart(signal.SIGKILL)
    assert health(own)["Status"] == "healthy"
    await_events(own, "exec_die")
    # the check that the killed engine had begun was ended; the new engine has one of its own
    await_events(own, "exec_start", name="stuck")
    own.docker("pause", "stuck")
    assert len(container_processes(stuck)) == 1
    own.docker("unpause", "stuck")
    assert own.text("inspect", "-f", "{{.State.Running}}", identifier) == "true"


def test_unhealthy_container_is_started_again(own: EngineProcess) -> None:
    options = ("--restart", "on-unhealthy:2", "--health-cmd", "false", *QUICK, "--health-retries", "2")
    run(own, *options, "busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
    assert await_events(own, "health_status", 3) == ["health_status: unhealthy"] * 3
    seen = await_events(own, "die", 2)
    assert seen == ["die"] * 2
    # two restarts are allowed: the third time it stays, unhealthy as it is
    state = own.text("inspect", "-f", "{{.State.Status}} {{.RestartCount}} {{.State.Health.Status}}", "checked")
    assert state == "running 2 unhealthy"
    own.docker("stop", "checked")
    assert own.text("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "checked") == "exited 2"


def test_a_policy_given_later_starts_an_unhealthy_container_again(own: EngineProcess) -> None:
    health = ("--health-cmd", "test ! -e /tmp/broken", *QUICK, "--health-retries", "1")
    run(own, *health, "busybox", "sh", "-c", "rm -f /tmp/broken; trap 'exit 0' TERM; while :; do sleep 0.05; done")
    assert own.tare("update", "--restart", "on-unhealthy:5", "checked").stdout == b"checked\n"
    assert own.text("inspect", "-f", "{{json .HostConfig.RestartPolicy}}", "checked") == (
        '{"Name":"on-unhealthy","MaximumRetryCount":5}'
    )
    own.docker("exec", "checked", "touch", "/tmp/broken")
    assert await_events(own, "start", 2) == ["start"] * 2
    own.docker("stop", "checked")
    own.docker("update", "--restart", "no", "checked")
    assert own.text("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "checked") == "no"


def test_policies_that_are_refused(own: EngineProcess) -> None:
    for policy, words in (
        ("sometimes", "unknown policy 'sometimes'"),
        ("always:3", "maximum retry count can only be used with"),
        ("on-unhealthy:-1", "maximum retry count cannot be negative"),
    ):
        for client in (own.docker, own.tare):
            done = client("create", "--restart", policy, "busybox", "true", check=False)
            assert done.returncode != 0
            assert words in done.stderr.decode()


def test_restart_of_a_container_that_is_removed_at_its_end(own: EngineProcess) -> None:
    identifier = run(own, "--rm", "busybox", "sleep", "1000")
    own.docker("restart", "checked")
    assert own.text("inspect", "-f", "{{.Id}} {{.State.Running}}", "checked") == f"{identifier} true"


def request(own: EngineProcess, method: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
    import http.client
    import socket

    connection = http.client.HTTPConnection("engine")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(own.socket))
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
