from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare.engine.clock import to_seconds
from tare.engine.commit import merge
from tare.engine.container_filters import select_for_prune
from tare.engine.prune_filters import until_moment
from tare.engine.updates import check_limits, check_policy, parse_set, runtime_resources
from tare.errors import InvalidArgument
from tare.kernel.cgroups import CgroupLayout
from tare.model.container import Container, ContainerConfig, HostConfig, RestartPolicy
from tare.oci.image import ExecutionConfig


def layout(tmp_path: Path) -> CgroupLayout:
    for name in ("cpuset", "blkio"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "cpuset/cpuset.cpus").write_text("0-3\n")
    (tmp_path / "cpuset/cpuset.mems").write_text("0\n")
    v1 = {name: tmp_path / name for name in ("cpuset", "blkio")}
    return CgroupLayout(kind="v1", v1=v1, unified=None, controllers=frozenset(v1), swap=True)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (HostConfig(memory=1 << 20), "Minimum memory limit allowed is 6MB"),
        (HostConfig(memory_reservation=1 << 20), "Minimum memory reservation allowed is 6MB"),
        (HostConfig(memory=8 << 20, memory_swap=7 << 20), "Minimum memoryswap limit"),
        (HostConfig(memory=8 << 20, memory_reservation=9 << 20), "can not be less than memory reservation"),
        (HostConfig(nano_cpus=1 << 60), "range of CPUs is from 0.01"),
        (HostConfig(nano_cpus=10**9, cpu_period=1000), "Nano CPUs and CPU Period"),
        (HostConfig(nano_cpus=10**9, cpu_quota=1000), "Nano CPUs and CPU Quota"),
        (HostConfig(cpu_period=10), "CPU cfs period"),
        (HostConfig(cpu_quota=10), "CPU cfs quota"),
        (HostConfig(cpuset_cpus="1,x"), "Invalid value 1,x for cpuset cpus: invalid format: 1,x"),
        (HostConfig(cpuset_cpus="2-9"), "Requested CPUs are not available - requested 2-9, available: 0-3"),
        (HostConfig(cpuset_mems="1"), "Requested memory nodes are not available - requested 1, available: 0"),
    ],
)
def test_limits_that_mean_nothing(tmp_path: Path, asked: HostConfig, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message.replace(".", r"\.")):
        check_limits(asked, layout(tmp_path))


def test_a_weight_that_the_kernel_does_not_know_is_dropped_with_a_warning(tmp_path: Path) -> None:
    asked = HostConfig(blkio_weight=500)
    assert "Weight discarded" in check_limits(asked, layout(tmp_path))[0]
    assert asked.blkio_weight == 0
    (tmp_path / "blkio/blkio.weight").touch()
    assert check_limits(HostConfig(blkio_weight=500), layout(tmp_path)) == []
    with pytest.raises(InvalidArgument, match="from 10 to 1000"):
        check_limits(HostConfig(blkio_weight=5), layout(tmp_path))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (RestartPolicy(name="bogus"), "unknown policy 'bogus'"),
        (RestartPolicy(name="always", maximum_retry_count=1), "only be used with 'on-failure'"),
        (RestartPolicy(name="on-failure", maximum_retry_count=-1), "cannot be negative"),
    ],
)
def test_policies_that_mean_nothing(policy: RestartPolicy, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check_policy(policy)


def test_only_what_is_asked_for_goes_to_the_runtime() -> None:
    assert runtime_resources(HostConfig()) == {}
    asked = HostConfig(nano_cpus=1_500_000_000, memory=8 << 20, memory_swap=-1, pids_limit=0, cpuset_cpus="0")
    assert runtime_resources(asked) == {
        "memory": {"limit": 8 << 20, "swap": -1},
        "cpu": {"period": 100_000, "quota": 150_000, "cpus": "0"},
        "pids": {"limit": -1},
    }


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0", {0}), ("0-2,7", {0, 1, 2, 7}), ("3-1", None), ("", None), ("1-", None), ("0-99999999", None)],
)
def test_sets_of_numbers(text: str, numbers: set[int] | None) -> None:
    assert parse_set(text) == numbers


def container(number: int, created: str, labels: dict[str, str]) -> Container:
    return Container(
        id=str(number) * 64,
        name=f"c{number}",
        created=created,
        image_id="sha256:" + "a" * 64,
        image_name="x",
        path="x",
        args=[],
        config=ContainerConfig(labels=labels),
        host_config=HostConfig(),
        networking={},
        mounts=[],
    )


OLD, NEW = container(1, "2024-01-01T00:00:00Z", {"a": "1"}), container(2, "2024-01-03T00:00:00Z", {"b": ""})
NOW = 1704326400.0  # 2024-01-04


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "c1c2"),
        ({"until": ["48h"]}, "c1"),
        ({"until": ["2024-01-02T00:00:00"]}, "c1"),
        ({"until": ["1704300000"]}, "c1c2"),
        ({"label": ["a"]}, "c1"),
        ({"label": ["a=2"]}, ""),
        ({"label!": ["a"]}, "c2"),
        ({"label!": ["a", "b"]}, "c1c2"),
        ({"label!": ["a", "a=1"]}, "c2"),
    ],
)
def test_what_prune_may_remove(filters: dict[str, list[str]], names: str) -> None:
    assert "".join(one.name for one in select_for_prune([OLD, NEW], filters, NOW)) == names


@pytest.mark.parametrize("filters", [{"until": ["soon"]}, {"until": ["1h", "2h"]}, {"name": ["x"]}, {"dangling": []}])
def test_prune_never_takes_a_filter_for_none(filters: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidArgument):
        select_for_prune([OLD], filters, NOW)


def test_moments() -> None:
    assert until_moment("1.5", NOW) == 1.5
    assert until_moment("1h30m", NOW) == NOW - 5400
    assert until_moment("2024-01-04T01:00:00+01:00", NOW) == NOW
    assert until_moment("2024-01-03T21:30:00.5-02:30", NOW) == NOW + 0.5


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time is 14 hours ahead."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("text", ["2024-01-04", "2024-01-04T00", "2024-01-04T00:00", "2024-01-04T00:00:00"])
def test_a_moment_without_zone_is_local(far_east: None, text: str) -> None:
    assert until_moment(text, NOW) == NOW - 14 * 3600
    if "T" in text:
        assert until_moment(f"{text}Z", NOW) == NOW


@pytest.mark.parametrize("text", ["", "2024-13-01", "2024-01-04T25", "2024-01-04 00:00", "1x"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(InvalidArgument, match="failed to parse value as time or duration"):
        until_moment(text, NOW)


def test_a_fraction_with_a_zone() -> None:
    assert to_seconds("2024-01-04T01:00:00.25+01:00") == NOW + 0.25
    assert to_seconds("2024-01-03T23:00:00-01:00") == NOW
    assert to_seconds("2024-01-04T00:00:00.5Z") == NOW + 0.5
    assert to_seconds("0001-01-01T00:00:00Z") == to_seconds("") == 0.0


def test_changes_are_laid_over_a_configuration() -> None:
    base = ExecutionConfig(
        env=["PATH=/bin", "A=1"], cmd=["sh"], labels={"k": "v"}, working_dir="/srv", exposed_ports={"80/tcp": {}}
    )
    changed = merge(base, ExecutionConfig(env=["A=2", "B=3"], labels={"l": ""}, working_dir="sub", user="app"))
    assert changed.env == ["PATH=/bin", "A=2", "B=3"]
    assert (changed.cmd, changed.working_dir, changed.user) == (["sh"], "/srv/sub", "app")
    assert (changed.labels, changed.exposed_ports) == ({"k": "v", "l": ""}, {"80/tcp": {}})
    assert merge(base, ExecutionConfig(entrypoint=["/x"])).cmd is None
    assert merge(base, ExecutionConfig(env=["B=3", "A=2"]), leading=True).env == ["B=3", "A=2", "PATH=/bin"]
    assert merge(base, ExecutionConfig(entrypoint=["/x"], cmd=["y"])).cmd == ["y"]
