"""Signals, times, names, paths and filters."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tare.engine.clock import ZERO_TIME, format_ns, now, to_nanoseconds, to_seconds
from tare.engine.container_filters import select
from tare.engine.names import NAME, random_name
from tare.engine.paths import DEFAULT_DATA_ROOT, DEFAULT_RUN_ROOT, EnginePaths
from tare.errors import InvalidArgument, NotFound
from tare.model.container import Container, ContainerConfig, ContainerState, EndpointSettings, HostConfig, MountPoint
from tare.model.signals import parse_signal


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("hup", 1), ("9", 9), ("64", 64), ("USR1", 10), ("WINCH", 28),
        ("RTMIN", int(signal.SIGRTMIN)), ("RTMIN+3", int(signal.SIGRTMIN) + 3), ("SIGRTMAX-1", 63), ("RTMAX", 64),
    ],
)  # fmt: skip
def test_signal(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "65", "-9", "SIG", "NOPE", "SIGSIGKILL", "_IGN", "RTMIN+99", "RTMAX+1", "RTMIN+x", "9 ", "\u0669"]
)
def test_invalid_signal(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid signal: "):
        parse_signal(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
    ],
)
def test_times(nanoseconds: int, text: str) -> None:
    assert format_ns(nanoseconds) == text
    assert to_seconds(text) == pytest.approx(nanoseconds / 1e9)


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 0), (ZERO_TIME, 0), ("1970-01-01T01:00:00+01:00", 0), ("1970-01-01T00:00:05", 5)]
)
def test_other_times(text: str, seconds: float) -> None:
    assert to_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1700000000", 1_700_000_000_000_000_000),
        ("1700000000.123456789", 1_700_000_000_123_456_789),
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123_456_789),
        ("2023-11-14T23:13:20.000000001+01:00", 1_700_000_000_000_000_001),
        ("2023-11-14T22:13:20", 1_700_000_000_000_000_000),
        ("2023-11-14", 1_699_920_000_000_000_000),
    ],
)
def test_exact_times(text: str, nanoseconds: int) -> None:
    assert to_nanoseconds(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-5", "1e9", "2023-13-01T00:00:00Z", "10m", "\u0661"])
def test_invalid_times(text: str) -> None:
    with pytest.raises(ValueError):
        to_nanoseconds(text)


def test_the_present_is_in_order() -> None:
    assert to_seconds(now()) <= to_seconds(now())


def test_random_names_are_valid_names() -> None:
    assert all(NAME.fullmatch(random_name()) for _ in range(50))
    retried = random_name(retry=1)
    assert NAME.fullmatch(retried)
    assert retried[-1].isdecimal()


@pytest.mark.parametrize("name", ["", "a", "-a", ".a", "a b", "a/b", "a\n", "caf\u00e9"])
def test_invalid_names(name: str) -> None:
    assert NAME.fullmatch(name) is None


def test_paths_of_the_default_engine() -> None:
    paths = EnginePaths(DEFAULT_DATA_ROOT, DEFAULT_RUN_ROOT)
    assert (paths.instance, paths.cgroup_parent) == ("", "/tare")
    assert paths.log("x") == Path("/var/lib/tare/containers/x/container.log")
    assert paths.rootfs("x") == Path("/run/tare/rootfs/x")


def test_engines_with_other_data_have_other_names() -> None:
    one, two = (EnginePaths(Path(root), Path("/run/x")) for root in ("/a", "/b"))
    assert one.instance != two.instance
    assert len(one.instance) == 6
    assert int(one.instance, 16) >= 0
    assert one.cgroup_parent == f"/tare-{one.instance}"
    assert len(f"tr{one.instance}-{'0' * 6}") <= 15


BOX = "sha256:" + "ab" * 32


def container(number: int, status: str = "running", **more: Any) -> Container:
    fields: dict[str, Any] = {
        "id": f"{number}" * 64, "name": f"name{number}", "created": f"2024-01-01T00:00:0{number}Z",
        "image_id": BOX, "image_name": "box:latest", "path": "x", "args": [],
        "config": ContainerConfig(labels={"n": str(number)}), "host_config": HostConfig(network_mode="bridge"),
        "networking": {"front": EndpointSettings()}, "mounts": [], "state": ContainerState(status=status),
    }  # fmt: skip
    return Container(**{**fields, **more})


ALL = [
    container(1),
    container(2, "exited", state=ContainerState(status="exited", exit_code=3)),
    container(3, "created", mounts=[MountPoint(type="volume", name="vol", source="/v", destination="/d")]),
    container(4, "paused", config=ContainerConfig(labels={"n": "4", "x": ""}, exposed_ports={"80/tcp": {}})),
    container(5, host_config=HostConfig(network_mode="none", port_bindings={"53/udp": []}), networking={}),
]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, "145"),
        ({"status": ["exited"]}, "2"),
        ({"status": ["exited", "created"]}, "23"),
        ({"exited": ["3"]}, "2"),
        ({"name": ["name1"]}, "1"),
        ({"name": ["^/?name1$"]}, "1"),
        ({"name": ["/name1"]}, "1"),
        ({"name": ["name"]}, "145"),
        ({"name": ["["]}, ""),
        ({"id": ["1111"]}, "1"),
        ({"label": ["n=4"]}, "4"),
        ({"label": ["n", "x"]}, "4"),
        ({"label": ["n=9"]}, ""),
        ({"ancestor": ["box"]}, "145"),
        ({"ancestor": []}, "145"),
        ({"volume": ["vol"], "status": ["created"]}, "3"),
        ({"network": ["front"]}, "14"),
        ({"network": ["none"]}, "5"),
        ({"expose": ["80"]}, "4"),
        ({"publish": ["53/udp"]}, "5"),
        ({"publish": ["53"]}, ""),
        ({"before": ["name4"]}, "1"),
        ({"since": ["name1"]}, "45"),
        ({"since": ["1111"], "before": ["name5"]}, "4"),
        ({"name": ["name1"], "label": ["n=4"]}, ""),
        ({"name": []}, "145"),
        ({"is-task": ["false"]}, "145"),
        ({"health": ["none"]}, "145"),
    ],
)
def test_filters(filters: dict[str, list[str]], found: str) -> None:
    assert "".join(item.id[0] for item in select(ALL, filters, running_only=True, ancestors={BOX})) == found


def test_containers_of_no_known_image() -> None:
    assert select(ALL, {"ancestor": ["nope"]}, running_only=True) == []


def test_all_containers() -> None:
    assert len(select(ALL, {}, running_only=False)) == 5


@pytest.mark.parametrize(
    ("filters", "kind", "words"),
    [
        ({"colour": ["red"]}, InvalidArgument, "invalid filter 'colour'"),
        ({"status": ["asleep"]}, InvalidArgument, "invalid filter 'status=asleep'"),
        ({"before": ["ghost"]}, NotFound, "No such container: ghost"),
    ],
)
def test_filters_that_are_wrong(filters: dict[str, list[str]], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        select(ALL, filters, running_only=False)
