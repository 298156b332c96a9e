"""Container specs as values: the whole default document, and what each wish changes in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tare.errors import InvalidArgument, Unsupported
from tare.kernel.cgroups import CgroupLayout
from tare.runtime.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES, effective, from_mask
from tare.runtime.host import HostFacts, SpecDevice
from tare.runtime.seccomp import compile_profile, default_profile
from tare.runtime.spec import make_spec
from tare.runtime.spec_request import Resources, SpecMount, SpecRequest, SpecUlimit

V1 = {name: Path("/sys/fs/cgroup", name) for name in ("memory", "cpu", "cpuset", "pids", "blkio", "devices")}
FACTS = HostFacts(
    cgroups=CgroupLayout(kind="v1", v1=V1, unified=None, controllers=frozenset(V1), swap=True),
    capabilities=frozenset(ALL_CAPABILITIES),
    kernel=(6, 1),
    architecture="amd64",
    hard_limits={"nofile": 4096, "nproc": -1},
    sysctls=frozenset({"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"}),
)
V2 = replace(
    FACTS,
    cgroups=CgroupLayout(
        kind="v2",
        v1={},
        unified=Path("/sys/fs/cgroup"),
        controllers=frozenset({"memory", "cpu", "cpuset", "pids", "io"}),
        swap=True,
    ),
)
REQUEST = SpecRequest(
    rootfs=Path("/merged"),
    args=("sh",),
    hostname="web",
    cgroup_path="/tare/abc",
    network_namespace=Path("/run/tare/netns/abc"),
)


def spec(facts: HostFacts = FACTS, **changes: Any) -> dict[str, Any]:
    return make_spec(replace(REQUEST, **changes), facts)


def test_the_default_spec_is_docker_s() -> None:
    golden = json.loads((Path(__file__).parents[2] / "golden/runtime/default_spec.json").read_text())
    made = spec()
    profile = made["linux"].pop("seccomp")
    assert made == golden
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"


def test_specs_are_the_same_for_the_same_request() -> None:
    assert json.dumps(spec()) == json.dumps(spec())


def test_namespaces() -> None:
    kinds = {entry["type"]: entry.get("path") for entry in spec()["linux"]["namespaces"]}
    assert kinds == {"mount": None, "network": "/run/tare/netns/abc", "uts": None, "pid": None, "ipc": None}
    assert "cgroup" in {entry["type"] for entry in spec(V2)["linux"]["namespaces"]}
    changed = spec(network_namespace=None, pid_mode="host", uts_mode="host", ipc_mode="/proc/7/ns/ipc")
    kinds = {entry["type"]: entry.get("path") for entry in changed["linux"]["namespaces"]}
    assert kinds == {"mount": None, "ipc": "/proc/7/ns/ipc"}
    assert "hostname" not in changed
    with pytest.raises(InvalidArgument, match="invalid pid mode: nonsense"):
        spec(pid_mode="nonsense")


def test_settings_of_a_namespace_of_somebody_else_are_left_alone() -> None:
    assert "sysctl" not in spec(network_namespace=None)["linux"]
    assert "sysctl" not in spec(network_shared=True)["linux"]
    own = spec(sysctls={"net.ipv4.ip_unprivileged_port_start": "1024"}, domainname="example.org")["linux"]["sysctl"]
    assert own["net.ipv4.ip_unprivileged_port_start"] == "1024"
    assert own["kernel.domainname"] == "example.org"


def test_privileged_lifts_everything() -> None:
    device = SpecDevice(path="/dev/kvm", kind="c", major=10, minor=232)
    made = make_spec(replace(REQUEST, privileged=True), replace(FACTS, devices=(device,)))
    linux = made["linux"]
    assert made["process"]["capabilities"]["effective"] == list(ALL_CAPABILITIES)
    assert (linux["maskedPaths"], linux["readonlyPaths"]) == ([], [])
    assert "seccomp" not in linux
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert [entry["path"] for entry in linux["devices"]] == ["/dev/kvm"]
    options = {mount["destination"]: mount["options"] for mount in made["mounts"]}
    assert "ro" not in options["/sys"] + options["/sys/fs/cgroup"]


def test_another_user_has_capabilities_until_it_executes_the_program() -> None:
    process = spec(uid=1000, gid=100, groups=(100, 4))["process"]
    for kind in ("bounding", "effective", "permitted"):
        assert process["capabilities"][kind] == list(DEFAULT_CAPABILITIES)
    assert process["capabilities"]["inheritable"] == []
    assert "ambient" not in process["capabilities"], "these would survive execve"
    assert process["user"] == {"uid": 1000, "gid": 100, "additionalGids": [100, 4]}


def test_the_environment_of_the_request_wins() -> None:
    env = spec(env=("PATH=/bin", "TERM=dumb", "EMPTY=", "HOSTNAME"), terminal=True)["process"]["env"]
    assert env == ["PATH=/bin", "TERM=dumb", "EMPTY="]


def test_a_read_only_root_leaves_the_kernel_s_file_systems_writable() -> None:
    options = {mount["destination"]: mount["options"] for mount in spec(readonly_rootfs=True)["mounts"]}
    assert "ro" in options["/sys"]
    assert all("ro" not in options[path] for path in ("/proc", "/dev", "/dev/shm", "/dev/pts", "/dev/mqueue"))


def test_mounts_replace_defaults_and_come_parents_first() -> None:
    mounts = spec(
        mounts=(
            SpecMount(source="/b", destination="/data/deep", options=("ro",)),
            SpecMount(source="/a", destination="/data", options=("bind", "rshared")),
            SpecMount(type="tmpfs", source="", destination="/dev/shm/", options=("size=1m",)),
        )
    )["mounts"]
    own = [mount for mount in mounts if mount["destination"] in ("/data", "/data/deep", "/dev/shm/", "/dev/shm")]
    assert [(mount["destination"], mount["options"]) for mount in own] == [
        ("/data", ["bind", "rshared"]),
        ("/data/deep", ["rbind", "ro", "rprivate"]),
        ("/dev/shm/", ["size=1m"]),
    ]


@pytest.mark.parametrize(
    ("facts", "wanted", "key", "expected"),
    [
        (FACTS, Resources(memory=64 << 20), "memory", {"limit": 64 << 20, "swap": 128 << 20}),
        (FACTS, Resources(memory=64 << 20, memory_swap=-1), "memory", {"limit": 64 << 20, "swap": -1}),
        (FACTS, Resources(memory_reservation=1 << 20), "memory", {"reservation": 1 << 20}),
        (FACTS, Resources(nano_cpus=1_500_000_000), "cpu", {"period": 100000, "quota": 150000}),
        (FACTS, Resources(cpu_shares=1, cpuset_cpus="0-1"), "cpu", {"shares": 1, "cpus": "0-1"}),
        (FACTS, Resources(pids_limit=100), "pids", {"limit": 100}),
        (FACTS, Resources(pids_limit=-1), "pids", None),
        (FACTS, Resources(pids_limit=0), "pids", None),
        (V2, Resources(blkio_weight=300), "blockIO", {"weight": 300}),
        (V2, Resources(memory=64 << 20, oom_kill_disable=True), "memory", {"limit": 64 << 20, "swap": 128 << 20}),
        (
            replace(FACTS, cgroups=replace(FACTS.cgroups, swap=False)),
            Resources(memory=64 << 20),
            "memory",
            {"limit": 64 << 20},
        ),
        (
            replace(FACTS, cgroups=CgroupLayout(kind="none", v1={}, unified=None, controllers=frozenset(), swap=False)),
            Resources(memory=64 << 20, cpu_shares=5),
            "memory",
            None,
        ),
    ],
)
def test_limits(facts: HostFacts, wanted: Resources, key: str, expected: object) -> None:
    assert spec(facts, resources=wanted)["linux"]["resources"].get(key) == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resources": Resources(memory=1024)}, "minimum memory limit allowed is 6MB"),
        ({"resources": Resources(memory_swap=1 << 30)}, "always set the memory limit"),
        ({"resources": Resources(memory=64 << 20, memory_swap=1 << 20)}, "larger than memory limit"),
        ({"resources": Resources(memory=64 << 20, memory_reservation=1 << 30)}, "memory reservation limit"),
        ({"resources": Resources(nano_cpus=1, cpu_quota=1)}, "cannot both be set"),
        ({"resources": Resources(blkio_weight=5)}, "range of blkio weight"),
        ({"args": ()}, "no command specified"),
        ({"cwd": "relative"}, "needs to be an absolute path"),
        ({"oom_score_adj": 2000}, "range for oom score adj"),
        ({"ulimits": (SpecUlimit(name="bogus", soft=1, hard=1),)}, "invalid ulimit type: bogus"),
        ({"ulimits": (SpecUlimit(name="nofile", soft=9, hard=1),)}, "less than or equal to hard limit: 9 > 1"),
        ({"cap_add": ("FLY",)}, 'unknown capability: "CAP_FLY"'),
        ({"seccomp": "{"}, "decoding seccomp profile failed"),
        ({"seccomp": "{}"}, "no defaultAction"),
        ({"device_cgroup_rules": ("nonsense",)}, "invalid device cgroup rule format: 'nonsense'"),
        ({"device_cgroup_rules": ("x 1:3 rwm",)}, "invalid device cgroup rule format: 'x 1:3 rwm'"),
    ],
)
def test_wrong_wishes_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        spec(**changes)


def test_limits_are_not_raised_above_what_the_engine_may() -> None:
    limits = (SpecUlimit(name="nofile", soft=65536, hard=-1), SpecUlimit(name="nproc", soft=-1, hard=-1))
    mighty = spec(ulimits=limits)["process"]["rlimits"]
    assert mighty[0] == {"type": "RLIMIT_NOFILE", "soft": 65536, "hard": (1 << 64) - 1}
    weak = replace(FACTS, capabilities=FACTS.capabilities - {"CAP_SYS_RESOURCE"}, oom_score_adj=100)
    bounded = spec(weak, ulimits=limits)["process"]
    assert bounded["rlimits"][0] == {"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}
    assert bounded["rlimits"][1]["hard"] == (1 << 64) - 1
    assert bounded["oomScoreAdj"] == 100


def test_init_is_put_in_front() -> None:
    made = make_spec(replace(REQUEST, init=True), replace(FACTS, init=Path("/usr/bin/tini-static")))
    assert made["process"]["args"] == ["/sbin/docker-init", "--", "sh"]
    assert made["mounts"][-1]["source"] == "/usr/bin/tini-static"
    with pytest.raises(Unsupported, match="no init program"):
        spec(init=True)


def test_devices_and_their_rules() -> None:
    device = SpecDevice(path="/dev/fuse", kind="c", major=10, minor=229, permissions="rw")
    linux = spec(devices=(device,), device_cgroup_rules=("b *:1 r",))["linux"]
    assert linux["devices"][0]["path"] == "/dev/fuse"
    assert linux["resources"]["devices"][-2:] == [
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": True, "type": "b", "minor": 1, "access": "r"},
    ]


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), list(DEFAULT_CAPABILITIES)),
        (("net_admin",), (), [*DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"]),
        (("CHOWN",), ("ALL",), ["CAP_CHOWN"]),
        ((), ("all",), []),
        (("ALL",), ("CAP_SYS_ADMIN",), [name for name in ALL_CAPABILITIES if name != "CAP_SYS_ADMIN"]),
        ((), ("mknod",), [name for name in DEFAULT_CAPABILITIES if name != "CAP_MKNOD"]),
    ],
)
def test_capabilities_are_added_and_dropped_as_in_docker(
    add: tuple[str, ...], drop: tuple[str, ...], expected: list[str]
) -> None:
    assert effective(add, drop, privileged=False, available=FACTS.capabilities) == expected


def test_capabilities_of_a_mask() -> None:
    assert from_mask(0b1001) == {"CAP_CHOWN", "CAP_FOWNER"}
    assert from_mask(0xA80425FB) == set(DEFAULT_CAPABILITIES)


def _names(profile: dict[str, Any], action: str = "SCMP_ACT_ALLOW") -> set[str]:
    return {name for rule in profile["syscalls"] if rule["action"] == action for name in rule["names"]}


def test_the_seccomp_profile_follows_capabilities_kernel_and_architecture() -> None:
    plain = dict(default_profile(frozenset(), "amd64", (6, 1)))
    assert plain["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert {"read", "ptrace", "arch_prctl"} <= _names(plain)
    assert not {"mount", "chroot", "cacheflush"} & _names(plain)
    assert "clone3" in _names(plain, "SCMP_ACT_ERRNO")
    admin = dict(default_profile(frozenset({"CAP_SYS_ADMIN"}), "arm64", (4, 4)))
    assert {"mount", "clone3", "cacheflush"} <= _names(admin)
    assert not {"ptrace", "arch_prctl"} & _names(admin)
    assert not any({"includes", "excludes", "comment"} & set(rule) for rule in plain["syscalls"])


def test_a_profile_of_one_s_own() -> None:
    text = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"name": "mkdir", "action": "SCMP_ACT_ERRNO", "errnoRet": 0}],
        }
    )
    assert spec(seccomp=text)["linux"]["seccomp"]["syscalls"] == [
        {"action": "SCMP_ACT_ERRNO", "errnoRet": 0, "names": ["mkdir"]}
    ]
    both = json.dumps({"defaultAction": "x", "architectures": ["a"], "archMap": [{"architecture": "b"}]})
    with pytest.raises(InvalidArgument, match="both architectures and archMap"):
        compile_profile(both, frozenset(), "amd64", (6, 1))
    assert "seccomp" not in spec(seccomp="unconfined")["linux"]
