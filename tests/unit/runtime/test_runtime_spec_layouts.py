"""Whole resource, namespace and mount lists for hosts with version 1 and with version 2 of the control groups.

The documents in ``tests/golden/runtime`` are what runc's and crun's specification (runtime-spec 1.0, config-linux.md)
asks for; a change of one is a change of what every container with limits gets.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tare.kernel.cgroups import CgroupLayout
from tare.runtime.capabilities import ALL_CAPABILITIES
from tare.runtime.host import HostFacts, SpecDevice
from tare.runtime.spec import make_spec
from tare.runtime.spec_request import Resources, SpecRequest

GOLDEN = Path(__file__).parents[2] / "golden/runtime"
V1_NAMES = ("memory", "cpu", "cpuset", "pids", "blkio", "devices")
V1 = HostFacts(
    cgroups=CgroupLayout(
        kind="v1",
        v1={name: Path("/sys/fs/cgroup", name) for name in V1_NAMES},
        unified=None,
        controllers=frozenset(V1_NAMES),
        swap=True,
    ),
    capabilities=frozenset(ALL_CAPABILITIES),
    kernel=(6, 1),
    architecture="amd64",
    hard_limits={"nofile": 4096},
    sysctls=frozenset({"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"}),
)
V2 = replace(
    V1,
    cgroups=CgroupLayout(
        kind="v2",
        v1={},
        unified=Path("/sys/fs/cgroup"),
        controllers=frozenset({"memory", "cpu", "cpuset", "pids", "io"}),
        swap=True,
    ),
)
HYBRID = replace(V1, cgroups=replace(V1.cgroups, kind="hybrid", unified=Path("/sys/fs/cgroup/unified")))
EVERYTHING = SpecRequest(
    rootfs=Path("/merged"),
    args=("sh",),
    cgroup_path="/tare/abc",
    network_namespace=Path("/run/tare/netns/abc"),
    user_namespace=Path("/run/tare/isolation/abc/userns"),
    ids=(1_879_048_192, 65_536),
    shared_memory=Path("/run/tare/isolation/abc/shm"),
    writable_cgroups=True,
    devices=(SpecDevice(path="/dev/fuse", kind="c", major=10, minor=229, permissions="rw"),),
    device_cgroup_rules=("c 42:* rm",),
    resources=Resources(
        memory=64 << 20,
        memory_swap=128 << 20,
        memory_reservation=32 << 20,
        memory_swappiness=10,
        oom_kill_disable=True,
        cpu_shares=512,
        nano_cpus=500_000_000,
        cpu_realtime_period=1_000_000,
        cpu_realtime_runtime=950_000,
        cpuset_cpus="0-1",
        cpuset_mems="0",
        pids_limit=100,
        blkio_weight=300,
        blkio_weight_device=((254, 0, 400),),
        blkio_throttle={"throttleReadBpsDevice": ((254, 0, 1 << 20),), "throttleWriteIOPSDevice": ((254, 0, 50),)},
    ),
)


def _document(facts: HostFacts, **changes: Any) -> dict[str, Any]:
    made = make_spec(replace(EVERYTHING, **changes), facts)
    made["linux"].pop("seccomp", None)
    return {"linux": made["linux"], "mounts": made["mounts"]}


@pytest.mark.parametrize(("name", "facts"), [("limits_v1.json", V1), ("limits_v2.json", V2)])
def test_everything_at_once(name: str, facts: HostFacts) -> None:
    assert _document(facts) == json.loads((GOLDEN / name).read_text())


def test_a_host_with_both_keeps_limits_in_version_1() -> None:
    assert _document(HYBRID) == _document(V1)


def test_the_control_group_namespace_is_private_on_version_2_unless_asked() -> None:
    def kinds(facts: HostFacts, **changes: Any) -> set[str]:
        return {namespace["type"] for namespace in _document(facts, **changes)["linux"]["namespaces"]}

    assert "cgroup" in kinds(V2)
    assert "cgroup" not in kinds(V1)
    assert "cgroup" in kinds(V1, cgroupns_mode="private")
    assert "cgroup" not in kinds(V2, cgroupns_mode="host")
    assert "cgroup" not in kinds(V2, privileged=True)


def test_ids_of_its_own() -> None:
    own, plain = _document(V1)["linux"], _document(V1, user_namespace=None, ids=None)["linux"]
    assert own["uidMappings"] == own["gidMappings"] == [{"containerID": 0, "hostID": 1_879_048_192, "size": 65_536}]
    assert "uidMappings" not in plain
    assert "net.ipv4.ping_group_range" in plain["sysctl"]
    assert "net.ipv4.ping_group_range" not in own["sysctl"]  # its groups are not the container's


def test_shared_memory() -> None:
    def shm(**changes: Any) -> list[dict[str, Any]]:
        return [mount for mount in _document(V1, **changes)["mounts"] if mount["destination"] == "/dev/shm"]

    assert shm(no_shared_memory=True, shared_memory=None) == []
    (own,) = shm(shared_memory=None)
    assert own["type"] == "tmpfs"
    (joined,) = shm(ipc_mode="/proc/5/ns/ipc")
    assert (joined["type"], joined["source"]) == ("bind", "/run/tare/isolation/abc/shm")


def test_a_profile_counts_where_the_host_has_the_module() -> None:
    with_module = replace(V1, security_modules=frozenset({"apparmor"}))
    assert make_spec(replace(EVERYTHING, apparmor="mine"), with_module)["process"]["apparmorProfile"] == "mine"
    assert "apparmorProfile" not in make_spec(replace(EVERYTHING, apparmor="mine"), V1)["process"]
