"""What containers may be asked to be: limits, modes, policies and security options, checked by Docker's rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tare.engine.creation import complete_host_config
from tare.engine.health_checks import settle_health
from tare.engine.option_checks import check_process, userns_size
from tare.engine.resource_limits import check_limits, limited_devices, parse_number_list
from tare.engine.security_options import SecurityOptions, check_labels, read_security
from tare.errors import InvalidArgument, Unsupported
from tare.kernel.cgroups import LimitSupport
from tare.model.container import ContainerConfig, HealthConfig, HostConfig, RestartPolicy, ThrottleDevice, WeightDevice
from tare.oci.image import ExecutionConfig

NOTHING = LimitSupport(
    **{name: False for name in LimitSupport.__dataclass_fields__ if name not in ("blkio_throttle", "cpus", "mems")},
    blkio_throttle=frozenset(),
)

ALL = LimitSupport()
V2 = LimitSupport(swappiness=False, oom_kill_disable=False, cpu_realtime=False)
DISK = [ThrottleDevice(path="/dev/vda", rate=1)]


def complete(support: LimitSupport = ALL, **fields: Any) -> list[str]:
    return complete_host_config(
        HostConfig(**fields), ContainerConfig(), runtime="runc", cgroupns="host", support=support
    )


@pytest.mark.parametrize(
    ("fields", "warning", "left"),
    [
        ({"memory": 64 << 20}, "memory limit capabilities", {"memory": 0, "memory_swap": -1}),
        ({"memory_reservation": 64 << 20}, "memory soft limit capabilities", {"memory_reservation": 0}),
        ({"memory_swappiness": 5}, "memory swappiness capabilities", {"memory_swappiness": None}),
        ({"oom_kill_disable": True}, "OomKillDisable. OomKillDisable discarded.", {"oom_kill_disable": None}),
        ({"pids_limit": 5}, "PIDs limit capabilities", {"pids_limit": None}),
        ({"cpu_shares": 5}, "CPU shares", {"cpu_shares": 0}),
        ({"cpu_quota": 5000}, "CPU CFS scheduler. CPU period/quota discarded.", {"cpu_quota": 0}),
        ({"cpuset_cpus": "0"}, "cpuset or the cgroup", {"cpuset_cpus": ""}),
        ({"blkio_weight": 500}, "Block I/O weight or", {"blkio_weight": 0}),
        (
            {"blkio_weight_device": [WeightDevice(path="/dev/vda", weight=10)]},
            "Block I/O weight_device",
            {"blkio_weight_device": []},
        ),
        ({"blkio_device_read_bps": DISK}, "BPS Block I/O read limit", {"blkio_device_read_bps": []}),
        ({"blkio_device_write_bps": DISK}, "BPS Block I/O write limit", {"blkio_device_write_bps": []}),
        ({"blkio_device_read_iops": DISK}, "IOPS Block read limit", {"blkio_device_read_iops": []}),
        ({"blkio_device_write_iops": DISK}, "IOPS Block write limit", {"blkio_device_write_iops": []}),
    ],
)
def test_limits_that_the_kernel_lacks_are_dropped_with_a_warning(
    fields: dict[str, Any], warning: str, left: dict[str, Any]
) -> None:
    host = HostConfig(**fields)
    (said,) = check_limits(host, NOTHING)
    assert said.startswith(f"Your kernel does not support {warning}")
    assert {name: getattr(host, name) for name in left} == left
    kept = HostConfig(**fields)
    assert check_limits(kept, LimitSupport(), cpu_count=2) == (
        []
        if "oom_kill_disable" not in fields
        else [
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        ]
    )
    assert kept == HostConfig(**fields)


def test_nothing_is_said_about_what_was_not_asked_for() -> None:
    assert check_limits(HostConfig(oom_kill_disable=False, pids_limit=0), NOTHING) == []


def test_memory_without_swap_accounting() -> None:
    host = HostConfig(memory=64 << 20, memory_swap=128 << 20)
    (said,) = check_limits(host, LimitSupport(swap=False))
    assert said.endswith("Memory limited without swap.")
    assert host.memory_swap == -1


def test_version_2_keeps_no_swappiness() -> None:
    host = HostConfig(memory=64 << 20, memory_swappiness=10, oom_kill_disable=True)
    assert [said.partition(" or ")[0] for said in check_limits(host, V2)] == [
        "Your kernel does not support memory swappiness capabilities",
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"memory": 1 << 20}, "Minimum memory limit allowed is 6MB"),
        ({"memory": -5}, "Minimum memory limit allowed is 6MB"),
        ({"memory_swap": 64 << 20}, "You should always set the Memory limit"),
        ({"memory": 64 << 20, "memory_swap": 1}, "Minimum memoryswap limit should be larger"),
        ({"memory_swappiness": 101}, "valid memory swappiness range is 0-100"),
        ({"memory_reservation": 5}, "Minimum memory reservation allowed is 6MB"),
        ({"memory": 8 << 20, "memory_reservation": 9 << 20}, "can not be less than memory reservation limit"),
        ({"nano_cpus": 3_000_000_000}, r"range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        ({"nano_cpus": 1, "cpu_period": 5000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"nano_cpus": 1, "cpu_quota": 5000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"cpu_shares": -1}, r"invalid CPU shares \(-1\)"),
        ({"cpu_period": 10}, "CPU cfs period can not be less than 1ms"),
        ({"cpu_quota": 10}, "CPU cfs quota can not be less than 1ms"),
        ({"cpu_realtime_period": 5, "cpu_realtime_runtime": 6}, "cannot be higher than cpu real-time period"),
        ({"cpuset_cpus": "0,9"}, "Requested CPUs are not available - requested 0,9, available: 0-1"),
        ({"cpuset_mems": "1"}, "Requested memory nodes are not available - requested 1, available: 0"),
        ({"cpuset_cpus": "x"}, "Invalid value x for cpuset cpus"),
        ({"cpuset_cpus": "3-1"}, "Invalid value 3-1 for cpuset cpus"),
        ({"blkio_weight": 5}, "Range of blkio weight is from 10 to 1000"),
    ],
)
def test_limits_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check_limits(HostConfig(**fields), LimitSupport(cpus="0-1", mems="0"), cpu_count=2)


def test_a_swap_limit_may_come_alone_in_an_update() -> None:
    assert check_limits(HostConfig(memory_swap=64 << 20), LimitSupport(), update=True) == []


def test_number_lists() -> None:
    assert parse_number_list("0-2,7", "x") == {0, 1, 2, 7}
    assert parse_number_list("", "x") == set()


def test_devices_of_block_limits() -> None:
    host = HostConfig(blkio_weight_device=[WeightDevice(path="/a")], blkio_device_write_iops=DISK)
    assert list(limited_devices(host)) == ["/a", "/dev/vda"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ipc_mode": "public"}, "invalid IPC mode: public"),
        ({"ipc_mode": "container:"}, "invalid IPC mode: container:"),
        ({"pid_mode": "private"}, "invalid PID mode: private"),
        ({"uts_mode": "container:x"}, "invalid UTS mode: container:x"),
        ({"cgroupns_mode": "x"}, "invalid cgroup namespace mode: x"),
        ({"userns_mode": "x"}, "invalid USER mode: x"),
        ({"userns_mode": "auto:size=70000000"}, "a size is 1024 to"),
        ({"userns_mode": "auto", "ipc_mode": "host"}, "--ipc cannot share with a user namespace"),
        ({"userns_mode": "auto", "uts_mode": "host"}, "--uts cannot share with a user namespace"),
        ({"tmpfs": {"x": ""}}, "invalid mount path: 'x' mount path must be absolute"),
        ({"tmpfs": {"/x": "size=1m,colour"}}, 'invalid tmpfs option "colour"'),
        ({"tmpfs": {"/x": "size="}}, 'invalid tmpfs option "size="'),
        ({"cap_add": ["FLY"]}, 'invalid CapAdd: unknown capability: "CAP_FLY"'),
        ({"isolation": "process"}, r"invalid isolation \(process\): linux only supports 'default'"),
        ({"oom_score_adj": -1001}, r"Invalid value -1001, range for oom score adj is \[-1000, 1000\]"),
        ({"shm_size": -1}, "SHM size can not be less than 0"),
        ({"security_opt": ["x=y"]}, 'invalid --security-opt 2: "x=y"'),
        ({"security_opt": ["x"]}, 'invalid --security-opt 1: "x"'),
        ({"security_opt": ["no-new-privileges=perhaps"]}, "invalid --security-opt 2"),
        ({"restart_policy": RestartPolicy(name="sometimes")}, "unknown policy 'sometimes'; use one of 'no'"),
        ({"restart_policy": RestartPolicy(name="always", maximum_retry_count=2)}, "can only be used with 'on-failure'"),
        (
            {"restart_policy": RestartPolicy(name="on-failure", maximum_retry_count=-2)},
            "maximum retry count cannot be negative",
        ),
        ({"device_requests": [{"Driver": "cdi", "Capabilities": [["gpu"]]}]}, 'could not select device driver "cdi"'),
        ({"storage_opt": {"speed": "1"}}, "Unknown option speed"),
    ],
)
def test_options_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        complete(**fields)


def test_a_size_of_the_root_file_system_is_not_kept_here() -> None:
    with pytest.raises(Unsupported, match="only for overlay over xfs with 'pquota'"):
        complete(storage_opt={"size": "1g"})


def test_a_host_without_cgroup_namespaces() -> None:
    (said,) = complete(LimitSupport(cgroup_namespaces=False), cgroupns_mode="private")
    assert said == "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded."


def test_capabilities_are_stored_by_their_full_names() -> None:
    host = HostConfig(cap_add=["net_admin", "CAP_NET_ADMIN"], cap_drop=["all"])
    complete_host_config(host, runtime="runc", cgroupns="host")
    assert (host.cap_add, host.cap_drop) == (["CAP_NET_ADMIN"], ["ALL"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ContainerConfig(working_dir="x"), "the working directory 'x' is invalid"),
        (ContainerConfig(env=["=x"]), "invalid environment variable: =x"),
    ],
)
def test_processes_that_make_no_sense(config: ContainerConfig, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check_process(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ContainerConfig(healthcheck=HealthConfig(interval=5)), "Interval in Healthcheck cannot be less than 1ms"),
        (ContainerConfig(healthcheck=HealthConfig(start_period=-5)), "StartPeriod in Healthcheck cannot be less"),
        (ContainerConfig(healthcheck=HealthConfig(retries=-1)), "Retries in Healthcheck cannot be negative"),
    ],
)
def test_health_checks_that_make_no_sense(config: ContainerConfig, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        settle_health(config, ExecutionConfig())


def test_a_host_name_needs_a_namespace_for_it() -> None:
    for fields in ({"uts_mode": "host"}, {"network_mode": "container:x"}):
        with pytest.raises(InvalidArgument, match="conflicting options: hostname and the"):
            complete_host_config(
                HostConfig(**fields), ContainerConfig(hostname="mine"), runtime="runc", cgroupns="host"
            )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], SecurityOptions()),
        (["no-new-privileges"], SecurityOptions(no_new_privileges=True)),
        (["no-new-privileges:false"], SecurityOptions()),
        (["seccomp:unconfined"], SecurityOptions(seccomp="unconfined")),
        (["seccomp=builtin"], SecurityOptions()),
        (['seccomp={"a":"b=c"}'], SecurityOptions(seccomp=json.dumps({"a": "b=c"}, separators=(",", ":")))),
        (
            ["apparmor=mine", "label=disable", "disable"],
            SecurityOptions(apparmor="mine", labels=("disable", "disable")),
        ),
        (["writable-cgroups"], SecurityOptions(writable_cgroups=True)),
        (["writable-cgroups=0"], SecurityOptions()),
    ],
)
def test_security_options(options: list[str], expected: SecurityOptions) -> None:
    assert read_security(HostConfig(security_opt=options)) == expected


def test_privileged_containers_have_no_filter_unless_one_is_named() -> None:
    assert read_security(HostConfig(privileged=True)).seccomp == "unconfined"
    assert read_security(HostConfig(privileged=True, security_opt=["seccomp=builtin"])).seccomp == "default"


def test_labels_are_refused_where_they_would_mean_something() -> None:
    options = read_security(HostConfig(security_opt=["label=disable", "label=type:mine_t"]))
    check_labels(options, {"apparmor"})
    with pytest.raises(Unsupported, match="label=type:mine_t: SELinux labels are not available"):
        check_labels(options, {"selinux"})
    check_labels(read_security(HostConfig(security_opt=["label=disable"])), {"selinux"})


def test_sizes_of_ranges() -> None:
    assert userns_size("auto") == 65536
    assert userns_size("auto:size=2000") == 2000
