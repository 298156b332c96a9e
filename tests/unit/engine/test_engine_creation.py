"""Configurations: what the request says, what the image says, what Docker makes of both."""

from __future__ import annotations

from typing import Any

import pytest

from tare.engine.creation import (
    DEFAULT_SHM_SIZE,
    WantedPort,
    command_of,
    complete_host_config,
    merge_config,
    parse_port,
    wanted_ports,
)
from tare.engine.option_checks import check_process
from tare.errors import InvalidArgument
from tare.model.container import ContainerConfig, HealthConfig, HostConfig, PortBinding, RestartPolicy
from tare.oci.image import ExecutionConfig, Healthcheck


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "image_entrypoint", "image_cmd", "executed"),
    [
        (None, None, None, ["c"], "c"),
        (None, None, ["e"], ["c"], "e c"),
        (None, None, ["e"], None, "e"),
        (None, ["x"], None, ["c"], "x"),
        (None, ["x"], ["e"], ["c"], "e x"),
        (["y"], None, ["e"], ["c"], "y"),
        (["y"], ["x"], ["e"], ["c"], "y x"),
        ([""], ["x"], ["e"], ["c"], "x"),
        ([], ["x"], ["e"], ["c"], "x"),
        ([], None, ["e"], ["c"], "c"),
        (None, [], ["e"], ["c"], "e c"),
        (None, ["a", "b c"], ["e", "f"], None, "e f a b c"),
    ],
)
def test_command(
    entrypoint: list[str] | None,
    cmd: list[str] | None,
    image_entrypoint: list[str] | None,
    image_cmd: list[str] | None,
    executed: str,
) -> None:
    config = ContainerConfig(entrypoint=entrypoint, cmd=cmd)
    merge_config(config, ExecutionConfig(entrypoint=image_entrypoint, cmd=image_cmd))
    command = command_of(config)
    assert " ".join([command.path, *command.args]) == executed


@pytest.mark.parametrize(("entrypoint", "image_entrypoint"), [(None, None), ([""], ["e"])])
def test_no_command(entrypoint: list[str] | None, image_entrypoint: list[str] | None) -> None:
    config = ContainerConfig(entrypoint=entrypoint)
    merge_config(config, ExecutionConfig(entrypoint=image_entrypoint))
    with pytest.raises(InvalidArgument, match=r"^no command specified"):
        command_of(config)


@pytest.mark.parametrize(
    ("own", "image", "field", "merged"),
    [
        ({}, {"user": "u"}, "user", "u"),
        ({"user": "o"}, {"user": "u"}, "user", "o"),
        ({}, {"working_dir": "/w"}, "working_dir", "/w"),
        ({"working_dir": "/o"}, {"working_dir": "/w"}, "working_dir", "/o"),
        ({}, {"stop_signal": "INT"}, "stop_signal", "INT"),
        ({"env": ["A=1"]}, {"env": ["A=2", "B=3"]}, "env", ["A=1", "B=3"]),
        ({"env": ["A"]}, {"env": ["A=2"]}, "env", ["A"]),
        ({}, {}, "env", []),
        ({"labels": {"a": "1"}}, {"labels": {"a": "2", "b": "3"}}, "labels", {"a": "1", "b": "3"}),
        (
            {"exposed_ports": {"1/tcp": {}}},
            {"exposed_ports": {"2/tcp": {}}},
            "exposed_ports",
            {"1/tcp": {}, "2/tcp": {}},
        ),
        ({}, {}, "exposed_ports", None),
        ({"volumes": {"/a": {}}}, {"volumes": {"/b": {}}}, "volumes", {"/a": {}, "/b": {}}),
        ({}, {"shell": ["/bin/x"]}, "shell", ["/bin/x"]),
        ({}, {"on_build": ["RUN x"]}, "on_build", ["RUN x"]),
    ],
)
def test_merge(own: dict[str, Any], image: dict[str, Any], field: str, merged: object) -> None:
    config = ContainerConfig(**own)
    merge_config(config, ExecutionConfig(**image))
    assert getattr(config, field) == merged


def test_health_checks_are_merged_by_field() -> None:
    config = ContainerConfig(healthcheck=HealthConfig(retries=5))
    merge_config(config, ExecutionConfig(healthcheck=Healthcheck(test=["CMD", "x"], interval=7, retries=2)))
    assert config.healthcheck == HealthConfig(test=["CMD", "x"], interval=7, retries=5)


def test_host_defaults() -> None:
    host = HostConfig()
    assert complete_host_config(host, runtime="runc", cgroupns="host") == []
    assert (host.network_mode, host.ipc_mode, host.cgroupns_mode, host.shm_size, host.runtime) == (
        "bridge", "private", "host", DEFAULT_SHM_SIZE, "runc",
    )  # fmt: skip
    assert (host.restart_policy.name, host.log_config.type, host.log_config.config) == ("no", "json-file", {})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"memory": 1 << 20}, "Minimum memory limit allowed is 6MB"),
        ({"memory": 64 << 20, "memory_swap": 32 << 20}, "Minimum memoryswap limit should be larger than memory limit"),
        ({"memory_swap": 32 << 20}, "You should always set the Memory limit when using Memoryswap limit"),
        ({"nano_cpus": 1, "cpu_quota": 1}, "Conflicting options: Nano CPUs and CPU"),
        ({"shm_size": -1}, "SHM size can not be less than 0"),
        ({"restart_policy": RestartPolicy(name="sometimes")}, "unknown policy 'sometimes'"),
        ({"auto_remove": True, "restart_policy": RestartPolicy(name="always")}, "can't create 'AutoRemove' container"),
    ],
)
def test_host_settings_that_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        complete_host_config(HostConfig(**fields), runtime="runc", cgroupns="host")


@pytest.mark.parametrize("fields", [{"memory": 6 << 20}, {"memory": 8 << 20, "memory_swap": -1}, {"nano_cpus": 10**9}])
def test_host_settings_that_are_accepted(fields: dict[str, Any]) -> None:
    assert complete_host_config(HostConfig(**fields), runtime="runc", cgroupns="private") == []


def test_ports_with_the_host_network_are_warned_about() -> None:
    host = HostConfig(network_mode="host", port_bindings={"80/tcp": None})
    assert complete_host_config(host, runtime="runc", cgroupns="host") == [
        "Published ports are discarded when using host network mode"
    ]


@pytest.mark.parametrize(
    ("text", "read"), [("80", (80, "tcp")), ("53/udp", (53, "udp")), ("65535/sctp", (65535, "sctp"))]
)
def test_port(text: str, read: tuple[int, str]) -> None:
    assert parse_port(text) == read


@pytest.mark.parametrize("text", ["", "0", "65536", "80/http", "x", "80/", "-1", "80/TCP/x", " 80"])
def test_invalid_port(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid port specification"):
        parse_port(text)


def test_wanted_ports() -> None:
    config = ContainerConfig(exposed_ports={"80/tcp": {}, "53/udp": {}})
    host = HostConfig(port_bindings={"80/tcp": [PortBinding(host_ip="127.0.0.1", host_port="8080"), PortBinding()]})
    bound = [WantedPort("tcp", 80, "127.0.0.1", "8080"), WantedPort("tcp", 80, "", "")]
    assert wanted_ports(config, host) == bound
    host.publish_all_ports = True
    assert wanted_ports(config, host) == [*bound, WantedPort("udp", 53, "", "")]


@pytest.mark.parametrize("port", ["99999", "x", "-5", "8010-8000", "8000-", "8000-99999"])
def test_wanted_ports_that_cannot_be(port: str) -> None:
    with pytest.raises(InvalidArgument, match=port):
        wanted_ports(ContainerConfig(), HostConfig(port_bindings={"80/tcp": [PortBinding(host_port=port)]}))


def test_stop_signal_is_checked() -> None:
    check_process(ContainerConfig(stop_signal="SIGINT"))
    check_process(ContainerConfig())
    with pytest.raises(InvalidArgument, match="invalid signal: NOPE"):
        check_process(ContainerConfig(stop_signal="NOPE"))
